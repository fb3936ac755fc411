"""Calls ahead of the loop: what idle workers may buy while a round waits for its verification call (decisions A9).

Rattled cells about u^h on the rung that is being verified and on the first one. A cell is worth it where its gain per
cost is at least a quarter of the best candidate's, those of the round among them, and as long as all speculative calls
together stay within the share of the cost that `[decisions] speculation` allows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.observation import KINDS
from farfield.service.campaign.continuous import SPECULATIVE
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.state import State
from farfield.service.cells import Size
from farfield.service.estimates.parametric import energy_gradient
from farfield.service.estimates.solution import Solution
from farfield.service.proposals import gain
from farfield.service.proposals.cost import PowerCost
from farfield.service.proposals.opening import Candidate
from farfield.service.proposals.verification import rounded
from farfield.service.surrogate import Posterior, design

__all__ = ["ahead", "relative_cost"]

Array = NDArray[np.float64]
RATTLES = (0.01, 0.02, 0.03)
"""Å."""
SHARE_OF_BEST = 0.25
SKETCH = 64
"""Random fields in place of all coefficients: gains are compared to a factor of four."""


def relative_cost(problem: Problem, candidates: Sequence[tuple[int, str]]) -> float:
    """Cost of (atoms, role) of some calls by the declared power law, in calls on 8 atoms."""
    cost = PowerCost(problem.config.cost.exponent)
    return sum(cost(natoms, role) for natoms, role in candidates)


def ahead(
    problem: Problem,
    state: State,
    solution: Solution,
    posterior: Posterior,
    host_row: Array,
    bought: Sequence[Candidate],
    kinds: tuple[str, ...],
    number: int,
) -> list[Candidate]:
    """Speculative cells beside what decision `number` has `bought`; `host_row` (K,): energy row of one host cell."""
    config = problem.config
    left = config.decisions.speculation * state.spent - state.speculated
    cost = PowerCost(config.cost.exponent)
    if left <= 0 or state.rung is None or state.u is None:
        return []
    rng = np.random.default_rng([config.campaign.seed, number, 7])
    basis, target = solution.surrogate.basis, problem.target
    offered: dict[str, Candidate] = {}
    for size in dict.fromkeys((state.rung, problem.first_size)):
        cell = problem.cell(size)
        y = cell.restrict(target, state.u)
        for sigma in RATTLES:
            atoms = rounded(cell.atoms(y + sigma * rng.normal(size=y.shape)))
            name = f"{size} {sigma:g}"
            offered[name] = (atoms, kinds, "training", SPECULATIVE, size, {"rattle": sigma})
    row = design(basis, target.atoms(state.u))
    aims = gain.goals(
        posterior,
        row.forces,
        energy_gradient(row.energy, host_row, target),
        target,
        solution.green,
        config.target.tol_geo,
        config.target.tol_energy,
        sketch=SKETCH,
        seed=number,
    )

    def rows(candidate: Candidate, name: str) -> gain.Candidate:
        atoms, _, role, _, size, _ = candidate
        found = design(basis, atoms)
        if role == "strain":
            values = {"V": KINDS["V"].row_scale(len(atoms)) * found.virial}
        else:
            values = {"E": (found.energy - _references(problem, size) * host_row)[None], "F": found.forces}
        return gain.Candidate(name, values, ((len(atoms), role),))

    own = [rows(c, f"own {k}") for k, c in enumerate(bought) if c[2] in ("verification", "training", "strain")]
    new = [rows(c, name) for name, c in offered.items()]
    best = gain.rank([*own, *new], posterior, aims, cost)[0].score
    out = []
    for scored in gain.batch(new, posterior, aims, cost, len(new), known=own):
        if scored.score >= SHARE_OF_BEST * best and scored.cost <= left:
            left -= scored.cost
            out.append(offered[scored.candidate.name])
    return out


def _references(problem: Problem, size: Size) -> float:
    return float(problem.cell(size).references)
