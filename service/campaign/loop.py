"""The pure loop: ask for a decision, tell its answers, read the estimate. No Dask, no files, no clock.

A deterministic function of the config and the answers in the order of the record (decisions A1). A notebook may drive
it by hand; the runner does nothing else with it::

    loop = Loop(config, OracleInfo("emt"))
    while isinstance(decision := loop.ask(), Decision):
        loop.tell(decision, my_answers(decision))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from farfield.errors import CampaignError
from farfield.service.campaign.assessment import assess
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, DerivedForceConstants, OracleInfo, Stop
from farfield.service.campaign.observed import DefectLabel, Observed
from farfield.service.campaign.opening import check_oracle, equilibrium
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.proposing import Proposing
from farfield.service.campaign.refit import Refit, refit, restored
from farfield.service.campaign.state import State
from farfield.service.campaign.summary import summarise
from farfield.service.campaign.training import TrainingSet
from farfield.service.cells import ForceConstantCell, next_rung
from farfield.service.cells.ladder import next_complete
from farfield.service.estimates import Estimate, LatticeOperator
from farfield.service.estimates.solution import Solution
from farfield.service.proposals import choose
from farfield.service.proposals.choice import Action, Facts, name
from farfield.service.surrogate import Surrogate

__all__ = ["Loop"]

REPAIRS = 4
"""Rounds of extra training cells bought while a gate fails, before the loop gives up."""
UNSTABLE = 0.02
"""eV/Å^2 below zero at which the oracle's lattice counts as unstable and not as noise."""
STALLS = 2
"""Successive rungs on which the refit fails to halve the core residual, before the basis grows."""


class Loop:
    """One campaign's loop. `seed` and everything else come from the config."""

    def __init__(self, config: CampaignConfig, oracle: OracleInfo) -> None:
        self.config, self.oracle = config, oracle
        self.state = State(level=config.surrogate.level)
        if config.host.lattice_constant != "oracle":
            self.state.lattice_constant = float(config.host.lattice_constant)
        self.problem = Problem(config, self.state.lattice_constant)
        self.problem.check()
        self.observed = Observed()
        self._training: TrainingSet | None = None
        self._current: Solution | None = None
        self._estimate: Estimate | None = None
        self._derived: list[DerivedForceConstants] = []
        self._told = 0
        self._action: Action | None = None
        self._stop: Stop | None = None

    @property
    def decisions_told(self) -> int:
        """How many decisions have been told, which is the number of the next."""
        return self._told

    @property
    def surrogate(self) -> Surrogate | None:
        """The surrogate of the current round: at the stop, the one whose error was estimated."""
        return self._current.surrogate if self._current else None

    @property
    def solution(self) -> Solution | None:
        """The current surrogate's solution in the target cell."""
        return self._current

    def estimate(self) -> Estimate | None:
        """The estimate that the last told decision gave, None where it held no verification call."""
        return self._estimate

    def derived(self) -> list[DerivedForceConstants]:
        """The FC observations that the last told decision completed."""
        return self._derived

    def ask(self) -> Decision | Stop:
        """The next decision, or why there is none. Asking twice gives the same."""
        if self._stop is not None:
            return self._stop
        return Proposing(self.problem, self.oracle, self.observed, self.state, self._told).decision(self._action)

    def tell(self, decision: Decision, answers: Sequence[Answer]) -> None:
        """Take the answers to `decision`, one per proposal in any order; estimate, refit and choose what is next.

        Raises CampaignError for a decision out of order or answers that do not match its proposals.
        """
        if decision.number != self._told:
            raise CampaignError(f"decision {self._told} is next, not {decision.number}; tell decisions in order")
        if {a.ordinal for a in answers} != {p.ordinal for p in decision.proposals}:
            raise CampaignError(f"the answers do not match the proposals of decision {decision.number}")
        self._estimate, self._derived = None, []
        self._take(decision, answers)
        if self._stop is None:
            if self.state.phase == "lattice":
                self._open()
            elif self.state.phase == "start":
                self._begin()
            else:
                self._round(decision)
        self._told += 1

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
        told.
        """
        loop = cls(config, oracle)
        if not decisions:
            return loop
        if len(answers) not in (len(decisions), len(decisions) - 1):
            raise CampaignError(f"{len(decisions)} decisions but answers to {len(answers)}: the record is not in order")
        for decision, answer in zip(decisions[:-1], answers, strict=False):
            loop.observed.add(decision, answer)
        loop._told = len(decisions) - 1
        loop._set_state(State.from_bytes(decisions[-1].state))
        if len(answers) == len(decisions):
            loop.tell(decisions[-1], answers[-1])
        return loop

    def _set_state(self, state: State) -> None:
        self.state = state
        self.problem = Problem(self.config, state.lattice_constant)
        self._current = restored(state, self.problem)

    def _take(self, decision: Decision, answers: Sequence[Answer]) -> None:
        self.observed.add(decision, answers)
        self._derived = self.observed.derived(self.problem.host, decision.number)
        needed = [(p, a) for p, a in self.observed.failures if p in decision.proposals]
        if needed:
            p, a = needed[0]
            self._stop = Stop(
                f"no answer for a {p.role} cell of {len(p.atoms)} atoms ({a.failure or 'missing kinds'}); "
                "see `farfield status`, mend the oracle and run again",
                False,
                1,
            )

    def _open(self) -> None:
        fault = check_oracle(self.observed, self.oracle.analytic)
        if fault is not None:
            self._stop = Stop(f"bad answer: {fault}; mend the oracle's settings", False, 1)
            return
        if self.observed.energies:
            a, bracketed = equilibrium(self.observed.energies)
            self.state.lattice_constant = float(np.round(a, 8))
            self.problem = Problem(self.config, self.state.lattice_constant)
            if not bracketed:
                return
        self.problem.check()
        self.state.phase = "start"

    def _begin(self) -> None:
        label = self.observed.constants[-1]
        constants = label.constants(ForceConstantCell(self.problem.host, label.size))
        lattice = LatticeOperator(self.problem.host, label.size, constants)
        if lattice.minimum < -UNSTABLE:
            self._stop = Stop(
                f"the oracle's own host lattice is unstable (force-constant eigenvalue {lattice.minimum:.3f} eV/Å^2 on "
                f"{name(label.size)}); choose another lattice, lattice constant or oracle setting",
                False,
                1,
            )
            return
        self.state.phase = "rounds"
        self.state.rung = self.problem.first_size
        self.state.fc_size = self.observed.constants[-1].size
        self._advance()

    def _round(self, decision: Decision) -> None:
        if self.state.verification is None:  # a repair: more training cells, nothing to estimate
            self._advance()
            return
        label = next(
            d for d in self.observed.defects if d.decision == self.state.verification and d.role == "verification"
        )
        if self._current is None:
            raise CampaignError("no surrogate to estimate; the record is not in order")
        result = assess(self._current, label, self.observed, self.problem, self._reference, with_dilute=True)
        estimate = summarise(decision.number, label, result, self.state, self.problem)
        history = [Estimate.from_json(e) for e in self.state.estimates]
        if history and history[-1].rung == estimate.rung:
            history.pop()  # a new estimate of the same call, with more force constants
        self._estimate = estimate
        tolerance = self.config.target.tol_geo, self.config.target.tol_energy
        history.append(estimate)
        if self._finished(history, tolerance):
            text = f"tolerance met on {name(history[-2].rung)} and {name(history[-1].rung)}"
            self._estimate = replace(estimate, reason=text)
            self.state.estimates = [*(h.to_json() for h in history[:-1]), self._estimate.to_json()]
            self._stop = Stop(text, True, 0)
            return
        self.state.estimates = [h.to_json() for h in history]
        self.state.eta_previous = estimate.eta_geo
        action = choose(estimate, self._facts())
        self.state.fit_fc, self.state.fit_v, self.state.fc_boost = action.fit_fc, action.fit_v, action.fc_boost
        if action.verify is not None and max(action.verify) >= self.config.target.size:
            self._stop = Stop(
                f"the ladder has reached the target cell ({max(action.verify)} cells per edge) before the tolerance; "
                f"set target.size above {self.config.target.size}",
                False,
                3,
            )
            self._estimate = replace(estimate, reason="the ladder has reached the target cell")
            return
        self._action = action
        if action.verify is None:
            self._estimate = replace(estimate, reason=action.reason)
            self.state.estimates[-1] = self._estimate.to_json()
            return
        self._advance(label, estimate)

    def _advance(self, label: DefectLabel | None = None, estimate: Estimate | None = None) -> None:
        """Refit on everything, solve, and look at the last datum again in sample."""
        seed = self.config.campaign.seed * 100003 + self._told
        old = self.state.u
        fresh = self._fit(seed)
        note = ""
        if estimate is not None and label is not None and all(fresh.gates.values()):
            again = assess(fresh.solution, label, self.observed, self.problem, self._reference, fresh.far)
            stalled = again.geometry.core > 0.5 * estimate.core
            matters = estimate.theta * estimate.core > 0.5 * self.config.target.tol_geo
            self.state.stalls = self.state.stalls + 1 if stalled and matters else 0
            estimate = replace(estimate, in_sample=again.eta_geo, core_after=again.geometry.core)
            if self.state.stalls >= STALLS and self.state.level < self.problem.top_level:
                self.state.level += 1
                self.state.stalls = 0
                self.state.enlarged += 1
                self._training = None
                fresh = self._fit(seed)
                note = f"; basis grown to {fresh.summary['basis_size']} functions, which halve no longer"
        self.state.old_u = old
        if all(fresh.gates[g] for g in ("relaxed", "sampled range")):  # else repairs start from the last sound one
            self.state.u = fresh.solution.u
        self.state.coefficients = fresh.solution.surrogate.coefficients
        self.state.basis = fresh.solution.surrogate.basis.to_json()
        self.state.solution = fresh.summary
        self._current = restored(self.state, self.problem)  # the same object as after a resume, to the last bit
        self._repair(fresh)
        if estimate is not None and self._action is not None:
            self._estimate = replace(estimate, reason=self._action.reason + note)
            self.state.estimates[-1] = self._estimate.to_json()

    def _fit(self, seed: int) -> Refit:
        if self._training is None:
            self._training = TrainingSet(self.problem.basis(self.state.level), self.problem.host, self.problem.defect)
        return refit(self.state, self.observed, self.problem, self._training, self._reference, seed)

    def _repair(self, fresh: Refit) -> None:
        """A failed gate is an action: train where it fails, do not trust an estimate."""
        failed = [g for g, ok in fresh.gates.items() if not ok and g not in ("sampled range", "same basin")]
        if not failed:
            self.state.repairs = 0
            if self._action is None or self._action.verify is None:
                rung = next_rung(self.problem.host, self.state.rung) if self.state.rung else self.problem.first_size
                facts = self._facts()
                self._action = Action(
                    rung,
                    f"first surrogate: verify on {name(rung)}",
                    None,
                    False,
                    facts.fit_fc,
                    facts.fit_v,
                )
            return
        self.state.repairs += 1
        if self.state.repairs > REPAIRS:
            self._stop = Stop(
                f"the surrogate stays unusable ({', '.join(failed)}) after {REPAIRS} extra training rounds; "
                "use a larger basis (surrogate.level) or cut-off",
                False,
                1,
            )
            return
        self._action = Action(None, f"gate failed ({', '.join(failed)}): train again on the current rung")

    def _facts(self) -> Facts:
        s, host = self.state, self.problem.host
        rung = next_rung(host, s.rung or self.problem.first_size)
        larger = next_complete(host, s.fc_size) if s.fc_size else None
        if larger is not None and max(larger) > self.config.target.size:
            larger = None
        return Facts(s.fit_fc, s.fit_v, s.fc_boost, s.fc_size, larger, rung, self.config.target.tol_geo)

    @property
    def _reference(self) -> float:
        """E of one host cell, eV."""
        return next(iter(sorted(self.observed.references.items())))[1][0]

    def _finished(self, history: list[Estimate], tolerance: tuple[float, float]) -> bool:
        if len(history) < 2 or not all(h.within(*tolerance) for h in history[-2:]):
            return False
        jump = history[-1].jump
        return jump is not None and jump <= tolerance[0]
