"""The inquiry into labels in doubt: which are held, what is bought to confirm them, which go into the fit (A10).

The round waits for it: a decision that buys confirmations buys nothing else, the surrogate stays as it is, and once
every verdict is there the round is concluded with the labels that held. A refuted label is withdrawn for good.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from farfield.errors import CampaignError
from farfield.service.campaign import ending
from farfield.service.campaign.decision import Answer, Decision, Note, Proposal, Stop
from farfield.service.campaign.electronic import MOVED, inherited, parent, shift, usable, with_moments
from farfield.service.campaign.observed import Observed
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.state import State
from farfield.service.campaign.suspects import ROLE, Doubt, Mismatch, confirmation, doubt, refutation
from farfield.service.campaign.training import reference_energy
from farfield.service.proposals.opening import Candidate
from farfield.service.surrogate import Surrogate

__all__ = ["REFUTED", "Inquiry", "held_pairs"]

REFUTED = 3
"""Labels that are refuted, or never confirmed, after which the oracle's answers count as bad."""

STATE, ELECTRONIC = "S", "electronic"
"""Kind of doubt about the electronic state, and the meta key of the cell that is asked again for it."""

Pair = tuple[Proposal, Answer]


class Inquiry:
    """Works on the loop's own `state` and `observed`; `surrogate` is the one that the labels were predicted with.

    `notes`: what was found since they were last cleared. `stop`: the end, where a cell keeps to another electronic
    state.
    """

    def __init__(self, problem: Problem, state: State, *, analytic: bool, mesh: bool) -> None:
        self.problem, self.state = problem, state
        self.analytic, self.mesh = analytic, mesh
        self.notes: list[Note] = []
        self.stop: Stop | None = None

    @property
    def open(self) -> list[dict[str, Any]]:
        """The suspects without a verdict, in the order of the record."""
        return [s for s in self.state.suspects if s["verdict"] is None]

    @property
    def refused(self) -> list[dict[str, Any]]:
        """The suspects that were refuted or could not be confirmed."""
        return [s for s in self.state.suspects if s["verdict"] in ("refuted", "unconfirmed")]

    def examine(
        self,
        decision: Decision,
        answers: Sequence[Answer],
        observed: Observed,
        surrogate: Surrogate,
        roles: Collection[str],
        *,
        in_sample: bool = False,
    ) -> None:
        """Put the labels of `decision` in `roles` that are far off the prediction aside, until they are confirmed.

        `in_sample`: the surrogate was fitted to them, so that its residuals, which they spoil, are no measure.
        """
        known = {s["calculation"] for s in self.state.suspects}
        by_ordinal = {a.ordinal: a for a in answers}
        doubted: dict[str, Pair] = {}
        for p in decision.proposals:
            a = by_ordinal[p.ordinal]
            if p.role not in roles or a.calculation in known | observed.withdrawn | doubted.keys() or a.forces is None:
                continue
            if (moved := self._moved(decision.number, p, a, observed)) is not None and ELECTRONIC in p.meta:
                self.stop = ending.another_state(f"{p.role} cell of {len(p.atoms)} atoms is {moved}")
                return
            off = self._mismatch(p, a, observed, surrogate)
            rms = {} if in_sample else dict(self.state.solution.get("residual_rms", {}))
            found: Doubt | None = None
            if moved is not None:
                found = Doubt(STATE, moved)
            elif in_sample or self._sound:
                early = not in_sample and not self.state.estimates
                found = doubt(p.role, len(p.atoms), off, rms, self._sigma(len(p.atoms)), early=early)
            if found is None:
                continue
            doubted[a.calculation] = (p, a)
            entry = {
                "calculation": a.calculation,
                "decision": decision.number,
                "ordinal": p.ordinal,
                "role": p.role,
                "natoms": len(p.atoms),
                "kind": found.kind,
                "why": found.why,
                "verdict": None,
            }
            self.state.suspects.append(entry)
            kind = "suspect" if moved is None else "another electronic state"
            self.notes.append(Note(kind, _sentence(entry), a.calculation))
        if doubted:
            observed.hold(doubted)

    def proposals(self, observed: Observed, surrogate: Surrogate) -> tuple[str, list[Candidate]]:
        """Why and what to buy next: the cells that confirm all open suspects."""
        out: list[Candidate] = []
        for s in self.open:
            p, a = observed.held[s["calculation"]]
            if s["kind"] == STATE:
                out.append(self._again(s["decision"], p, a, observed))
                continue
            off = self._mismatch(p, a, observed, surrogate)
            sigma = self._sigma(len(p.atoms)).get("E", 0.0)
            out += confirmation(s["kind"], p, a, off, analytic=self.analytic, sigma=sigma, traceless=self.mesh)
        texts = {STATE: "ask it again from its parent's moments"}
        parts = (f"{_sentence(s)}: {texts.get(s['kind'], 'confirm it by a nearby cell')}" for s in self.open)
        return "suspect: " + "; ".join(parts), out

    def hear(
        self, decision: Decision, answers: Sequence[Answer], observed: Observed, surrogate: Surrogate
    ) -> list[str]:
        """The verdicts that `decision` gives: confirmed labels go back; the calculations to withdraw are returned."""
        by_ordinal = {a.ordinal: a for a in answers}
        tests = [(p, by_ordinal[p.ordinal]) for p in decision.proposals if p.role == ROLE]
        lost = []
        for s in self.open:
            key = s["calculation"]
            if s["kind"] == STATE:
                lost += self._asked_again(s, decision, by_ordinal, observed)
                continue
            own = [(p, a) for p, a in tests if p.meta["suspect"] == key]
            if not own or key not in observed.held:
                continue
            if key in observed.withdrawn:  # by a person, meanwhile
                s["verdict"] = "withdrawn"
                observed.release(key)
                lost.append(key)
                continue
            s["verdict"], why = self._verdict(s, own, observed, surrogate)
            if s["verdict"] == "confirmed":
                observed.release(key)
                self.notes.append(Note("confirmed", f"{_sentence(s)}, and the oracle agrees with itself", key))
            else:
                observed.held.pop(key)
                s["why"] = f"{s['why']}; {why}"
                lost.append(key)
                self.notes.append(Note("withdrawn", f"{s['verdict']}: {_sentence(s)}", key))
        return lost

    @property
    def _sound(self) -> bool:
        """Whether the surrogate may judge: where a gate is closed it is known to be wrong, and more training is due."""
        return all(self.state.solution.get("gates", {}).values())

    def _moved(self, number: int, p: Proposal, a: Answer, observed: Observed) -> str | None:
        """How the moments of a defect cell moved against its parent, None where they stayed or there are none."""
        before = parent(observed, p.rung, number) if p.role in ("training", "verification") else None
        if before is None or before.moments is None or a.moments is None or not usable(a.moments, len(p.atoms)):
            return None
        by = shift(self.problem.cell(before.size), before.moments, self.problem.cell(p.rung), a.moments)
        if by <= MOVED:
            return None
        return (
            f"in another electronic state: a moment moved by {by:.2f} mu_B against that of decision {before.decision}"
        )

    def _again(self, number: int, p: Proposal, a: Answer, observed: Observed) -> Candidate:
        """The same cell from its parent's moments, which makes it another calculation."""
        before = parent(observed, p.rung, number)
        if before is None or before.moments is None:
            raise CampaignError("a cell in another electronic state has no parent; the record is not in order")
        moments = inherited(self.problem.cell(before.size), before.moments, self.problem.cell(p.rung))
        meta = {**p.meta, ELECTRONIC: a.calculation}
        return with_moments(p.atoms, moments), p.kinds, p.role, "electronic state", p.rung, meta

    def _asked_again(
        self, s: dict[str, Any], decision: Decision, answers: dict[int, Answer], observed: Observed
    ) -> list[str]:
        """The first answer stays out whatever the second says, which is examined like any other label."""
        key = s["calculation"]
        own = [p for p in decision.proposals if p.meta.get(ELECTRONIC) == key]
        if not own:
            return []
        s["verdict"] = "another state"
        _, first = observed.held.pop(key)
        second = answers[own[0].ordinal]
        if s["role"] == "verification":
            self.state.verification = decision.number
        if first.energy is not None and second.energy is not None and first.energy < second.energy:
            text = f"from its parent's moments the {s['role']} cell is {second.energy - first.energy:.3f} eV higher"
            self.notes.append(Note("electronic state", f"{text}: the parent may not be the ground state", key))
        return [key]

    def _verdict(
        self, s: dict[str, Any], tests: Sequence[Pair], observed: Observed, surrogate: Surrogate
    ) -> tuple[str, str]:
        p, a = observed.held[s["calculation"]]
        failed = next((b.failure or "missing kinds" for _, b in tests if b.energy is None or b.forces is None), None)
        if failed is not None:
            return "unconfirmed", f"the nearby cell was not answered ({failed})"
        off = self._mismatch(p, a, observed, surrogate)
        sigma = self._sigma(len(p.atoms)).get("E", 0.0)
        fault = refutation(s["kind"], p, a, off, tests, analytic=self.analytic, sigma=sigma)
        return ("confirmed", "") if fault is None else ("refuted", fault)

    def _mismatch(self, p: Proposal, a: Answer, observed: Observed, surrogate: Surrogate) -> Mismatch:
        """Answer minus prediction; energies and virials of both sides count from the host's."""
        energy, forces, virial = surrogate.evaluate(p.atoms)
        host_energy, _, host_virial = surrogate.evaluate(self.problem.host.atoms())
        off_energy = off_virial = None
        if a.energy is not None and p.role in ("training", "verification"):
            count = self.problem.cell(p.rung).references
            default = next(iter(sorted(observed.references.items())))[1][0]
            off_energy = a.energy - energy - count * (reference_energy(observed, p.rung, default) - host_energy)
        if a.virial is not None and p.role == "strain":
            pulay = observed.references.get((1, 1, 1), (0.0, None))[1]
            off_virial = a.virial - virial - ((np.zeros(6) if pulay is None else pulay) - host_virial)
        return Mismatch(off_energy, None if a.forces is None else a.forces - forces, off_virial)

    def _sigma(self, natoms: int) -> dict[str, float]:
        """The oracle's noise by kind in a cell of `natoms`, eV, eV/Å, eV; empty where it was not measured."""
        noise = self.state.noise
        if noise is None:
            return {}
        return {"E": noise.energy * natoms, "F": noise.force, "V": (noise.virial or 0.0) * natoms}


def held_pairs(
    state: State, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]
) -> dict[str, tuple[Proposal, Answer]]:
    """Proposal and answer of each suspect that a stored `state` holds without a verdict."""
    out = {}
    for s in state.suspects:
        if s["verdict"] is None:
            p = next(p for p in decisions[s["decision"]].proposals if p.ordinal == s["ordinal"])
            out[s["calculation"]] = (p, next(a for a in answers[s["decision"]] if a.ordinal == s["ordinal"]))
    return out


def _sentence(s: dict[str, Any]) -> str:
    return f"{s['role']} cell {s['decision']}/{s['ordinal']} of {s['natoms']} atoms is {s['why']}"
