"""The rounds of a campaign: estimate the last surrogate, refit on everything, choose what is next.

Pure, like the `loop` that drives it: everything follows from the problem, the labels and the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import CampaignError
from farfield.service.campaign import ending, growth, noise, target_size
from farfield.service.campaign.assessment import Assessment, assess
from farfield.service.campaign.continuous import unpaying
from farfield.service.campaign.decision import Decision, Stop
from farfield.service.campaign.observed import DefectLabel, Label, Observed
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.refit import Refit, refit, restored
from farfield.service.campaign.state import State
from farfield.service.campaign.summary import summarise
from farfield.service.campaign.training import TrainingSet
from farfield.service.cells import next_rung
from farfield.service.cells.ladder import next_complete, reaches
from farfield.service.estimates import Estimate
from farfield.service.estimates.solution import Solution
from farfield.service.proposals import choose
from farfield.service.proposals.choice import Action, Facts, name
from farfield.service.surrogate import LEVELS, Posterior

__all__ = ["REPAIRS", "Rounds"]

REPAIRS = 4
"""Rounds of extra training cells bought while a gate fails, before the loop gives up."""


class Rounds:
    """Works on the loop's own `observed` and `state`.

    `current`: the solution of the round's surrogate, at a stop the one whose error was estimated. `estimate`: what the
    last decision told gave, None where it held no verification call. `action`: what the next decision does. `stop`: the
    end, once it is there.
    """

    def __init__(self, problem: Problem, observed: Observed, state: State) -> None:
        self.problem, self.observed, self.state = problem, observed, state
        self.config = problem.config
        self.current: Solution | None = restored(state, problem)
        self.estimate: Estimate | None = None
        self.action: Action | None = None
        self.stop: Stop | None = None
        self._training: TrainingSet | None = None

    def first(self, number: int) -> None:
        """The first surrogate, after decision `number`."""
        self.estimate = self.action = None
        self._advance(number)

    def next(self, decision: Decision) -> None:
        """Conclude `decision`, whose answers are in `observed`."""
        self.estimate = self.action = None
        label = next(
            (d for d in self.observed.defects if d.decision == self.state.verification and d.role == "verification"),
            None,
        )
        if label is None:  # a repair, or a verification call that was withdrawn or lost: nothing to estimate
            self._advance(decision.number)
            if self.state.unanswered and self.stop is None and self.action is not None and self.action.verify:
                text = f"{self._missed()} on {name(self.state.rung)}: again at another rattle"
                self.action = replace(self.action, verify=self.state.rung, reason=text)
            return
        if self.current is None:
            raise CampaignError("no surrogate to estimate; the record is not in order")
        result = assess(self.current, label, self.observed, self.problem, self._reference, with_dilute=True)
        estimate = self._summary(decision.number, label, result)
        history = [Estimate.from_json(e) for e in self.state.estimates]
        if history and history[-1].rung == estimate.rung:
            history.pop()  # a new estimate of the same call, with more force constants
        history.append(estimate)
        self.state.estimates = [h.to_json() for h in history]
        finished = self._finished(history)
        while finished and self._enlarged(history):
            larger = assess(self.current, label, self.observed, self.problem, self._reference, with_dilute=True)
            again = self._summary(decision.number, label, larger)
            history[-1] = replace(again, jump=history[-1].jump)
            self.state.estimates[-1] = history[-1].to_json()
            finished = self._finished(history)
        estimate = history[-1]
        if finished:
            grown = self.problem.target.natoms if self.state.edge else None
            self.stop = ending.tolerance_met(history[-2].rung, history[-1].rung, grown)
            self._write(estimate, self.stop.reason)
            return
        if self.state.noise is not None and noise.limited(estimate, self.config.target.tol_geo):
            self.stop = ending.noise_limited(estimate, self.state.noise)
            self._write(estimate, self.stop.reason)
            return
        self.state.eta_previous = estimate.eta_geo
        small = estimate.guarded_geo <= self.config.target.tol_geo
        self.state.taken_back = unpaying(self.state, small, within=False)
        action = choose(estimate, self._facts())
        if action.strain and "strain" in self._open_roles:
            text = f"V tail dominates, and strained cells are under way: verify on {name(self._facts().next_rung)}"
            action = replace(action, strain=False, reason=text)
        if self.state.taken_back and "force constants" in self._open_roles and self.observed.constants:
            self.state.fc_size = self.observed.constants[-1].size  # may be asked for again
        self._proceed(action, decision, label, estimate)

    def _summary(self, number: int, label: DefectLabel, result: Assessment) -> Estimate:
        if self.current is None:
            raise CampaignError("no surrogate to estimate; the record is not in order")
        return summarise(number, label, result, self.state, self.problem, self.current, self._reference, self.observed)

    def _proceed(self, action: Action, decision: Decision, label: DefectLabel, estimate: Estimate) -> None:
        """Refit for `action` and go on, unless the ladder has ended."""
        self.state.fit_fc, self.state.fit_v, self.state.fc_boost = action.fit_fc, action.fit_v, action.fc_boost
        if action.verify is not None and reaches(action.verify, self.problem.target.size):
            self.stop = ending.ladder_ended(action.verify, self.config.target.size)
            self._write(estimate, "the ladder has reached the target cell")
            return
        self.action = action
        if action.verify is None:
            self._write(estimate, action.reason)
            return
        self._advance(decision.number, label, estimate)

    def _enlarged(self, history: list[Estimate]) -> bool:
        """Whether the target was too small for the energy and has grown (C13); the last of `history` is told what one
        1.5 times larger makes of it.

        The same surrogate is relaxed there, and the call it was verified with serves again: nothing is bought.
        """
        state, solution = self.state, self.current
        if solution is None or state.u is None:
            return False
        edge = target_size.larger(state.edge or self.config.target.size)
        larger = target_size.in_larger(solution, self.problem.target_of(edge))
        if larger is None:
            return False
        change = abs(larger.formation_energy - solution.formation_energy)
        history[-1] = replace(history[-1], cell=change)
        state.estimates[-1] = history[-1].to_json()
        if change <= self.config.target.tol_energy / target_size.SHARE:
            return False
        state.u, state.edge, self.current = larger.u, edge, larger
        state.old_u = None if state.old_u is None else larger.target.extend(solution.target, state.old_u)
        state.solution = {**state.solution, "formation_energy_raw": larger.formation_energy - self.problem.constant}
        self.problem = replace(self.problem, edge=edge)
        return True

    def forget(self, gone: Sequence[Label]) -> None:
        """Estimates that used one of the labels that are `gone` do not count any more; nor do stalls."""
        if gone:
            self.state.stalls = 0
            self.state.estimates = [e for e in self.state.estimates if not any(_used(label, e) for label in gone)]

    def _write(self, estimate: Estimate, reason: str) -> None:
        """The estimate of the round and why the next choice is made."""
        self.estimate = replace(estimate, reason=reason)
        self.state.estimates[-1] = self.estimate.to_json()

    def _advance(self, number: int, label: DefectLabel | None = None, estimate: Estimate | None = None) -> None:
        """Refit on everything, solve, and look at the last datum again in sample."""
        seed = self.config.campaign.seed * 100003 + number
        old = self.state.u
        grown = ""
        fresh = self._fit(seed)
        if self.state.repairs and _failed(fresh) and self.state.level < self.problem.top_level:
            fresh, grown = self._grow("more training did not open the gates", seed)
        if estimate is not None and label is not None and all(fresh.gates.values()):
            again = assess(fresh.solution, label, self.observed, self.problem, self._reference, fresh.far)
            estimate = replace(estimate, in_sample=again.eta_geo, core_after=again.geometry.core)
            self.state.stalls = growth.count_stalls(self.state.stalls, estimate, *self._tolerance)
            if self._limited(estimate):
                return
            if self.state.stalls >= growth.STALLS and self.state.level < self.problem.top_level:
                fresh, grown = self._grow(self._seen(estimate), seed)
        if not self.state.unanswered:  # else the refit saw no new core datum, and the next jump would compare u with u
            self.state.old_u = old
        if all(fresh.gates[g] for g in ("relaxed", "sampled range")):  # else repairs start from the last sound one
            self.state.u = fresh.solution.u
        self.state.second = None if self.state.estimates else fresh.solution.second
        self.state.coefficients = fresh.solution.surrogate.coefficients
        self.state.basis = fresh.solution.surrogate.basis.to_json()
        self.state.solution = fresh.summary
        self.current = restored(self.state, self.problem)  # the same object as after a resume, to the last bit
        self._repair(fresh)
        if grown and self.action is not None:
            self.action = replace(self.action, reason=f"{self.action.reason}; {grown}")
        if estimate is not None and self.action is not None:
            self._write(estimate, self.action.reason)

    def _trained(self) -> TrainingSet:
        if self._training is None:
            p = self.problem
            at_rest = self.config.host.lattice_constant == "oracle"
            self._training = TrainingSet(p.basis(self.state.level), p.host, p.defect, p.regressor, at_rest=at_rest)
        return self._training

    def _fit(self, seed: int) -> Refit:
        return refit(self.state, self.observed, self.problem, self._trained(), self._reference, seed)

    def _limited(self, estimate: Estimate) -> bool:
        """Whether the largest basis allowed does not learn what is bought: the end, with the surrogate as estimated."""
        level = self.state.level
        if level < self.problem.top_level or not growth.exhausted(self.state.stalls, estimate, *self._tolerance):
            return False
        basis = self.problem.basis(level)
        self.stop = ending.basis_limited(self._seen(estimate), level, basis.size, basis.cutoff, len(LEVELS) - 1)
        self._write(estimate, self.stop.reason)
        return True

    def _grow(self, why: str, seed: int) -> tuple[Refit, str]:
        """A refit with the next larger basis, its triangles built anew from the record, and a clause that says so."""
        self.state.level += 1
        self.state.stalls = 0
        self.state.enlarged += 1
        self._training = None  # frees the old triangles before the new ones are built
        fresh = self._fit(seed)
        fresh.summary["grown"] = why
        return fresh, f"{why}: basis grown to level {self.state.level}, {fresh.summary['basis_size']} functions"

    def _seen(self, estimate: Estimate) -> str:
        measured = [e for e in map(Estimate.from_json, self.state.estimates[:-1]) if e.core_after is not None]
        return growth.sentence(measured[-1], estimate)

    def _repair(self, fresh: Refit) -> None:
        """A failed gate is an action: train where it fails, do not trust an estimate."""
        failed = _failed(fresh)
        if not failed:
            self.state.repairs = 0
            if self.action is None or self.action.verify is None:
                rung = next_rung(self.problem.host, self.state.rung) if self.state.rung else self.problem.first_size
                facts = self._facts()
                self.action = Action(
                    rung, f"first surrogate: verify on {name(rung)}", None, False, facts.fit_fc, facts.fit_v
                )
            return
        self.state.repairs += 1
        if self.state.repairs > REPAIRS:
            self.stop = ending.unusable_surrogate(failed, REPAIRS)
            return
        self.action = Action(None, f"gate failed ({', '.join(failed)}): train again on the current rung")

    def _missed(self) -> str:
        """Why the last verification call gave no label."""
        own = [s for s in self.state.suspects if s["role"] == "verification"]
        doubted = bool(own) and own[-1]["decision"] == self.state.verification
        return "the answer was not confirmed" if doubted else "no label"

    def _facts(self) -> Facts:
        s, host = self.state, self.problem.host
        rung = next_rung(host, s.rung or self.problem.first_size)
        larger = next_complete(host, s.fc_size) if s.fc_size else None
        if larger is not None and any(a > b for a, b in zip(larger, self.problem.target.size, strict=True)):
            larger = None
        if "force constants" in self._open_roles:
            larger = None  # the last ones have not come yet
        return Facts(s.fit_fc, s.fit_v, s.fc_boost, s.fc_size, larger, rung, self.config.target.tol_geo)

    @property
    def _open_roles(self) -> set[str]:
        return {str(role) for _, _, role in self.state.open}

    def posterior(self) -> tuple[Posterior, NDArray[np.float64]]:
        """The posterior of all that is observed now, with the weights of the round's fit, and the host's energy row."""
        training = self._trained()
        training.update(self.observed, self._reference)
        return training.fit(dict(self.state.solution["weights"]), self._reference)[0], training.host_row

    @property
    def _reference(self) -> float:
        """E of one host cell, eV."""
        return next(iter(sorted(self.observed.references.items())))[1][0]

    @property
    def _tolerance(self) -> tuple[float, float]:
        """Å and eV."""
        return self.config.target.tol_geo, self.config.target.tol_energy

    def _finished(self, history: list[Estimate]) -> bool:
        if len(history) < 2 or not all(h.within(*self._tolerance) for h in history[-2:]):
            return False
        jump = history[-1].jump
        return jump is not None and jump <= self.config.target.tol_geo


def _used(label: Label, estimate: dict[str, Any]) -> bool:
    """Whether a stored estimate was measured with `label`: on its own call, or a mismatch of the far field."""
    if isinstance(label, DefectLabel):
        return label.role == "verification" and list(label.size) == list(estimate["rung"])
    return bool(estimate["decision"] >= label.decision)


def _failed(fresh: Refit) -> list[str]:
    """The closed gates without which a surrogate is of no use."""
    return [g for g, ok in fresh.gates.items() if not ok and g not in ("sampled range", "same basin")]
