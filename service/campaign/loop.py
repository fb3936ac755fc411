"""The pure loop: ask for a decision, tell its answers, read the estimate. No Dask, no files, no clock.

A deterministic function of the config and the answers in the order of the record (decisions A1). A notebook may drive
it by hand; the runner does nothing else with it::

    loop = Loop(config, OracleInfo("emt"))
    while isinstance(decision := loop.ask(), Decision):
        loop.tell(decision, my_answers(decision))
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from farfield.errors import CampaignError
from farfield.service.campaign import ending, lattice
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.continuous import SPECULATIVE, Earlier, needed, open_now, split, still_open
from farfield.service.campaign.decision import Answer, Decision, DerivedForceConstants, Note, OracleInfo, Stop
from farfield.service.campaign.inquiry import REFUTED, Inquiry, held_pairs
from farfield.service.campaign.losses import RESTARTS, fatal
from farfield.service.campaign.noise import declared, noise_of
from farfield.service.campaign.observed import FITTED, Label, Observed, as_read
from farfield.service.campaign.opening import check_oracle
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.proposing import Proposing
from farfield.service.campaign.rounds import Rounds
from farfield.service.campaign.speculation import relative_cost
from farfield.service.campaign.state import State
from farfield.service.estimates import Estimate, LatticeOperator
from farfield.service.estimates.solution import Solution
from farfield.service.surrogate import Surrogate

__all__ = ["Loop"]

UNSTABLE = 0.02
"""eV/Å^2 below zero at which the oracle's lattice counts as unstable and not as noise."""


class Loop:
    """One campaign's loop. `seed` and everything else come from the config."""

    def __init__(self, config: CampaignConfig, oracle: OracleInfo) -> None:
        self.config, self.oracle = config, oracle
        self.state = State(noise=declared(oracle))
        if config.host.lattice_constant != "oracle":
            self.state.lattice_constant = config.make_host().a
        self.problem = Problem(config, self.state.lattice_constant)
        self.state.level = self.problem.first_level
        self.problem.check()
        self.observed = Observed()
        self._rounds: Rounds | None = None
        self._inquiry: Inquiry | None = None
        self._derived: list[DerivedForceConstants] = []
        self._told = 0
        self._stop: Stop | None = None

    @property
    def decisions_told(self) -> int:
        """How many decisions have been told, which is the number of the next."""
        return self._told

    @property
    def surrogate(self) -> Surrogate | None:
        """The surrogate of the current round: at the stop, the one whose error was estimated."""
        return self.solution.surrogate if self.solution else None

    @property
    def solution(self) -> Solution | None:
        """The current surrogate's solution in the target cell."""
        return self._rounds.current if self._rounds else None

    def estimate(self) -> Estimate | None:
        """The estimate that the last told decision gave, None where it held no verification call."""
        return self._rounds.estimate if self._rounds else None

    def derived(self) -> list[DerivedForceConstants]:
        """The FC observations that the last told decision completed."""
        return self._derived

    def notes(self) -> list[Note]:
        """What the last told decision found out about labels in doubt, for the diary."""
        return list(self._inquiry.notes) if self._inquiry else []

    def ask(self) -> Decision | Stop:
        """The next decision, or why there is none. Asking twice gives the same."""
        if self._stop is not None:
            return self._stop
        standing = self.problem, self.oracle, self.observed, self.state, self._told, self.solution
        proposing = Proposing(*standing, self._rounds.posterior if self._rounds else None)
        if self._inquiry is not None and self._inquiry.open and self.surrogate is not None:
            return proposing.inquiry(*self._inquiry.proposals(self.observed, self.surrogate))
        return proposing.decision(self._rounds.action if self._rounds else None)

    @property
    def open_places(self) -> set[tuple[int, int]]:
        """(decision, ordinal) of what had not come when the last told decision was told, in continuous rounds."""
        return {(int(n), int(k)) for n, k, _ in self.state.open}

    def needs(self, decision: Decision) -> set[int]:
        """Ordinals of `decision` without which there is no next one, in continuous rounds."""
        strains = {p.ordinal for p in decision.proposals if p.role == "strain"}
        return needed(decision) | (set() if self.observed.strains else strains)  # the first estimate reads the first

    def tell(self, decision: Decision, answers: Sequence[Answer], earlier: Earlier = ()) -> None:
        """Take the answers to `decision`, one per proposal in any order; estimate, refit and choose what is next.

        In continuous rounds answers may be pending; `earlier` then has the answers to what was open of the decisions
        before. Raises CampaignError for a decision out of order or answers that do not match its proposals.
        """
        if decision.number != self._told:
            raise CampaignError(f"decision {self._told} is next, not {decision.number}; tell decisions in order")
        if {a.ordinal for a in answers} != {p.ordinal for p in decision.proposals}:
            raise CampaignError(f"the answers do not match the proposals of decision {decision.number}")
        if self._rounds is not None:
            self._rounds.estimate = None
        if self._inquiry is not None:
            self._inquiry.notes.clear()
        self._derived = []
        self.state.open, self.state.taken_back = open_now(decision, answers, earlier), []
        self._spend(decision)
        for late, told in earlier:
            self._catch_up(*split(late, told))
        decision, answers = split(decision, answers)
        self._take(decision, answers)
        self.observed.reorder()
        if self._stop is None:
            if self.state.phase == "lattice":
                self._open(decision)
            elif self.state.phase == "start":
                self._begin(decision, answers)
            elif self._rounds is not None and self._inquire(decision, answers):
                self._rounds.next(decision)
                self.problem = self._rounds.problem  # its target may have grown
                self._stop = self._rounds.stop
        self._told += 1

    def withdraw(self, calculations: Collection[str]) -> int:
        """Keep the labels of `calculations` (keys), suspect or wrong, out of every later fit; how many labels left it.

        The next refit builds its triangles anew from what is left (decisions C8). Estimates that used one of them no
        longer count towards the stop. Raises CampaignError after the end, and where nothing would be left to fit.
        """
        if self._stop is not None:
            raise CampaignError(
                f"the campaign has ended ({self._stop.reason}); withdraw before its last decision is told"
            )
        left, gone = self.observed.without(calculations)
        if (self.observed.defects and not left.defects) or (self.observed.constants and not left.constants):
            raise CampaignError("no defect cell or no force constants would be left to fit; keep one, or start anew")
        self._leave(left, gone)
        return len(gone)

    @classmethod
    def restore(
        cls,
        config: CampaignConfig,
        oracle: OracleInfo,
        decisions: Sequence[Decision],
        answers: Sequence[Sequence[Answer]],
    ) -> Loop:
        """A loop that stands where the record ends. The last decision is read, never recomputed.

        `answers` may be one shorter than `decisions` (the last is still in flight); where it is as long, the last is
        told. Labels that came only after their decision was told, as when another campaign buys what this one gave
        up, stay out: no later decision may depend on when the process started.
        """
        loop = cls(config, oracle)
        if not decisions:
            return loop
        if len(answers) not in (len(decisions), len(decisions) - 1):
            raise CampaignError(f"{len(decisions)} decisions but answers to {len(answers)}: the record is not in order")
        loop.state = State.from_bytes(decisions[-1].state)
        loop.state.noise = loop.state.noise or declared(oracle)
        loop.problem = Problem(config, *loop.state.geometry, loop.state.edge, tuple(loop.state.phases.items()))
        loop.observed.withdrawn = set(loop.state.withdrawn)
        out = {(int(n), int(k)) for n, k, _ in loop.state.open}
        for decision, answer in zip(decisions[:-1], answers, strict=False):
            read = as_read(answer, decisions[-1].inputs, loop.observed.withdrawn)
            loop.observed.add(*split(decision, [replace(a, pending=(decision.number, a.ordinal) in out) for a in read]))
        loop._told = len(decisions) - 1
        loop.observed.hold(held_pairs(loop.state, decisions, answers))
        if loop.state.phase == "rounds":
            loop._start_rounds()
        if len(answers) == len(decisions):
            loop.tell(decisions[-1], answers[-1], still_open(loop.state, decisions, answers))
        return loop

    def _catch_up(self, decision: Decision, answers: Sequence[Answer]) -> None:
        """Labels of an earlier decision that have come since; those far off the prediction are put in doubt."""
        self.observed.add(decision, answers)
        self._derived += self.observed.derived(self.problem.host, decision.number)
        self._lose(decision)
        if self._inquiry is not None and self.surrogate is not None:
            self._inquiry.examine(decision, answers, self.observed, self.surrogate, FITTED)

    def _take(self, decision: Decision, answers: Sequence[Answer]) -> None:
        self.observed.add(decision, answers)
        self._derived += self.observed.derived(self.problem.host, decision.number)
        out = {a.ordinal for a in answers if a.calculation in self.observed.withdrawn}
        lost = {p.role for p, _ in self.observed.failures if p in decision.proposals}
        lost |= {p.role for p in decision.proposals if p.ordinal in out}
        if "verification" in {p.role for p in decision.proposals}:
            self.state.unanswered = self.state.unanswered + 1 if "verification" in lost else 0
        self._lose(decision)

    def _spend(self, decision: Decision) -> None:
        """Count what `decision` asked for, and the speculative part of it."""
        calls = [(len(p.atoms), p.role, p.term) for p in decision.proposals]
        self.state.spent += relative_cost(self.problem, [(n, role) for n, role, _ in calls])
        self.state.speculated += relative_cost(self.problem, [(n, r) for n, r, term in calls if term == SPECULATIVE])

    def _lose(self, decision: Decision) -> None:
        """The end, where `decision` lost what the campaign cannot do without; what may still come is not lost."""
        loss = fatal(decision, self.observed, self.state.unanswered, self.state.restarts)
        if loss is not None and [decision.number, loss[0].role] not in [[n, r] for n, _, r in self.state.open]:
            self._stop = ending.no_answer(*loss)

    def _leave(self, left: Observed, gone: Sequence[Label]) -> None:
        self.observed = left
        self.state.withdrawn = sorted(left.withdrawn)
        if self._rounds is not None:
            self._rounds.observed = left
            self._rounds.forget(gone)

    def _inquire(self, decision: Decision, answers: Sequence[Answer]) -> bool:
        """Verdicts on labels in doubt and new doubts; whether the round can be concluded."""
        if self._inquiry is None or self.surrogate is None:
            return True
        if lost := self._inquiry.hear(decision, answers, self.observed, self.surrogate):
            own = [s for s in self.state.suspects if s["calculation"] in lost and s["verdict"] != "another state"]
            if any(s["role"] == "verification" for s in own):
                self.state.unanswered = max(1, self.state.unanswered)
            self._leave(*self.observed.without(lost))
        self._inquiry.examine(decision, answers, self.observed, self.surrogate, FITTED)
        self._stop = self._inquiry.stop
        if self._stop is not None or self._inquiry.open:
            return False
        refused = self._inquiry.refused
        if not self.observed.defects and len(refused) < REFUTED and self.state.restarts < RESTARTS:
            self.state.restarts += 1
            self.state.phase, self.state.u, self.state.second, self._rounds = "start", None, None, None
            return False
        if refused and (len(refused) >= REFUTED or not self.observed.defects):
            self._stop = ending.refuted_answers(len(refused), refused[-1]["why"])
        return self._stop is None

    def _start_rounds(self) -> Rounds:
        self._rounds = Rounds(self.problem, self.observed, self.state)
        analytic, mesh = self.oracle.analytic, self.oracle.mesh != "none"
        self._inquiry = Inquiry(self.problem, self.state, analytic=analytic, mesh=mesh)
        return self._rounds

    def _open(self, decision: Decision) -> None:
        fault = check_oracle(self.observed, self.oracle.analytic)
        if fault is not None:
            self._stop = ending.bad_answer(fault)
            return
        self.state.noise = self.state.noise or noise_of(self.observed)
        if self.observed.energies:
            complete = lattice.found(self.problem, self.state, self.observed, decision.number)
            self.problem = Problem(self.config, *self.state.geometry)
            if not complete:
                return
        self.problem.check()
        self.state.phase = "start"

    def _begin(self, decision: Decision, answers: Sequence[Answer]) -> None:
        if not self.observed.defects and self.observed.constants and self.state.restarts < RESTARTS:
            self.state.restarts += 1
            return
        if not self.observed.defects or not self.observed.constants:
            self._stop = ending.nothing_left()
            return
        label = self.observed.constants[-1]
        constants = label.constants(self.problem.host)
        operator = LatticeOperator(self.problem.host, label.size, constants)
        if operator.minimum < -UNSTABLE:
            self._stop = ending.unstable_host(operator.minimum, label.size)
            return
        self.state.phases = dict(sorted(self.observed.phases.items()))
        self.problem = replace(self.problem, phases=tuple(self.state.phases.items()))
        self.state.phase = "rounds"
        self.state.rung = self.problem.first_size
        self.state.fc_size = label.size
        rounds = self._start_rounds()
        rounds.first(self._told)
        self._stop = rounds.stop
        if self._inquiry is not None and rounds.current is not None:  # in sample, as nothing predicted the first cells
            self._inquiry.examine(
                decision, answers, self.observed, rounds.current.surrogate, ("training",), in_sample=True
            )
