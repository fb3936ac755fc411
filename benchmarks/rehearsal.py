"""Campaigns driven in one process, with the truth beside them: what the benchmarks of the estimates run.

The loop is the product's; only the runner is left out, so that a case takes seconds. The truth is the oracle's own
relaxation in the target cell, which no campaign ever sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.oracle import Oracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Proposal
from farfield.service.campaign.loop import Loop
from farfield.service.estimates import Estimate, relax
from farfield.service.estimates.solution import Solution

Array = NDArray[np.float64]

OTHER_BASIN = 0.5
"""||D(u^h - u)|| in Å beyond which the oracle is relaxed anew from u^h: it may be in another basin."""


@dataclass(frozen=True)
class Round:
    """One verification: the estimate, and the true error of the surrogate it speaks of (Å, eV)."""

    estimate: Estimate
    true_geometry: float
    true_energy: float
    cost: float


def rehearse(oracle: Oracle, values: dict[str, Any]) -> Iterator[Round]:
    """Run a campaign in process; yields its rounds. `values` are the sections of a campaign file."""
    config = CampaignConfig.from_mapping(values)
    loop = Loop(config, OracleInfo(oracle.name, oracle.mesh, oracle.analytic, frozenset(oracle.supports)))
    truths: list[tuple[Array, float]] = []
    cost = 0.0
    while isinstance(decision := loop.ask(), Decision):
        answers = [answer(oracle, p, decision.number) for p in decision.proposals]
        cost += sum(len(p.atoms) ** 2 / 1e4 for p in decision.proposals)
        solution = loop.solution
        norm = loop.problem.target.norm
        sound = solution is not None and solution.operator.minimum > 0
        if solution is not None:  # a target that grew has truths of its own
            truths = [t for t in truths if t[0].shape == solution.u.shape]
        if sound and all(norm(solution.u - u) > OTHER_BASIN for u, _ in truths):
            truths.append(true_solution(oracle, loop))  # the first, or of the basin that the surrogate went to
        loop.tell(decision, answers)
        estimate = loop.estimate()
        if estimate is not None and solution is not None and truths:
            u, energy = min(truths, key=lambda t: norm(solution.u - t[0]))
            yield Round(estimate, norm(solution.u - u), energy - solution.formation_energy, cost)


def answer(oracle: Oracle, p: Proposal, decision: int = 0) -> Answer:
    """The oracle's labels for one proposal."""
    o = oracle.evaluate(p.atoms, p.kinds).values
    return Answer(
        p.ordinal,
        f"rehearsal-{decision}-{p.ordinal}",
        None if "E" not in o else float(o["E"]),
        None if "F" not in o else np.asarray(o["F"]),
        None if "V" not in o else np.asarray(o["V"]),
    )


def true_solution(oracle: Oracle, loop: Loop) -> tuple[Array, float]:
    """The oracle's displacement (N, 3) Å and formation energy (eV) in the target cell, from the surrogate's."""
    if loop.solution is None:
        raise RuntimeError("the truth is relaxed from a surrogate's solution")
    return relaxed_oracle(oracle, loop.solution)


def relaxed_oracle(oracle: Oracle, solution: Solution) -> tuple[Array, float]:
    """The same from any surrogate's solution, whose lattice operator preconditions."""
    target = solution.target

    def evaluate(positions: Array) -> tuple[float, Array]:
        atoms = target.atoms(positions - target.x0)
        values = oracle.evaluate(atoms, ("E", "F")).values
        return float(values["E"]), np.asarray(values["F"])

    run = relax(evaluate, target, solution.u, solution.green)
    host = float(oracle.evaluate(target.host.atoms(), ("E",)).values["E"])
    return run.u, run.energy - target.references * host
