"""The surrogate's solution in the target cell: u^h, its Hessian, its lattice operator, and the gates on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from farfield.errors import BasisError
from farfield.service.cells import DefectCell, DisplacedCells, ForceConstantCell, Size
from farfield.service.estimates.hessian import lowest_curvature, solve
from farfield.service.estimates.lattice import LatticeOperator
from farfield.service.estimates.relaxation import Preconditioner, Relaxation, relax
from farfield.service.surrogate import Surrogate, neighbours

__all__ = ["SOFT", "Solution", "relaxed"]

Array = NDArray[np.float64]

FC_STEP = 0.01
"""Displacement of force-constant cells, Å, for an oracle without noise (decisions C10)."""
BASIN_ENERGY = 1e-3
"""eV by which a later start must be lower to win: symmetry images of one minimum do not replace each other."""
SOFT = 0.05
"""gamma_hom in eV/Å^2 below which a defect is flagged soft (theory.md section 6, A2)."""


@dataclass
class Solution:
    """A surrogate and its equilibrium in the target cell.

    `relaxation`: u^h (N, 3) Å and its energy; `reference` E^h of one host cell, eV; `constants` the surrogate's force
    constants on the target's grid; `others` energies of other minima within 0.1 eV of the lowest, eV above it, and
    `second` the displacement of the lowest of them.
    """

    surrogate: Surrogate
    target: DefectCell
    relaxation: Relaxation
    reference: float
    constants: Array
    others: list[float] = field(default_factory=list)
    second: Array | None = None

    @property
    def u(self) -> Array:
        """u^h (N, 3), Å."""
        return self.relaxation.u

    @property
    def formation_energy(self) -> float:
        """E_f^h up to the constants of foreign species, eV."""
        return self.relaxation.energy - self.target.references * self.reference

    @cached_property
    def operator(self) -> LatticeOperator:
        """H^h on the target's grid."""
        return LatticeOperator(self.target.host, self.target.size, self.constants)

    @cached_property
    def green(self) -> Preconditioner:
        """G_hom on the target's atoms."""
        return Preconditioner(self.target, self.operator)

    @cached_property
    def _product(self) -> Callable[[Array], Array]:
        evaluate = self.surrogate.evaluator(self.target.symbols, self.target.cell)
        return evaluate.hessian(self.target.x0 + self.u, points=2)  # its error of 1e-5 is far below the solve's

    def solve(self, r: Array) -> tuple[Array, bool]:
        """G^h r by preconditioned CG at u^h, and whether it converged."""
        answer = solve(self._product, r, self.green)
        return answer.x, answer.converged

    def curvature(self, rng: np.random.Generator) -> float:
        """Lowest Ritz value of the Hessian at u^h relative to the perfect lattice."""
        return lowest_curvature(self._product, self.green, self.u.shape, rng)

    def mismatch_constants(self, oracle: Array, cell: DisplacedCells, step: float) -> Array:
        """M = H - H^h by the same displaced cells, so folded and differenced alike (decisions C4)."""
        return oracle - cell.from_forces(lambda atoms: self.surrogate.evaluate(atoms)[1], step)

    def nearest_pair(self) -> float:
        """Smallest interatomic distance at u^h, Å."""
        return smallest_distance(self.surrogate, self.target, self.u)


def smallest_distance(surrogate: Surrogate, cell: DefectCell, u: Array) -> float:
    """Smallest interatomic distance of a displaced cell, Å."""
    return float(np.sqrt((neighbours(surrogate.basis, cell.atoms(u)).vectors ** 2).sum(axis=1).min()))


def lattice_constants(surrogate: Surrogate, target: DefectCell, size: Size | None = None) -> Array:
    """The surrogate's force constants on the perfect supercell of the target's (or another) size."""
    cell = ForceConstantCell(target.host, size or target.size)
    return cell.from_forces(lambda atoms: surrogate.evaluate(atoms)[1], FC_STEP)


def relaxed(
    surrogate: Surrogate,
    target: DefectCell,
    starts: Sequence[Array],
    *,
    closest: float = 0.0,
    force_tolerance: float = 1e-5,
) -> Solution:
    """Relax the target cell in the surrogate from each start (N, 3) Å; the lowest wins, the first of equals.

    Runs that end unconverged or with atoms nearer than `closest` Å (a hole of the surrogate) win only when all do."""
    reference = surrogate.evaluate(target.host.atoms())[0]
    constants = lattice_constants(surrogate, target)
    green = Preconditioner(target, LatticeOperator(target.host, target.size, constants))
    evaluate = surrogate.evaluator(target.symbols, target.cell)
    runs = []
    for start in starts:
        try:
            runs.append(relax(lambda x: evaluate(x)[:2], target, start, green, force_tolerance=force_tolerance))
        except BasisError:  # atoms collapsed: an unconverged run, which the gates turn into an action
            runs.append(Relaxation(start, np.inf, np.inf, 0, False))
    sound = [r.converged and smallest_distance(surrogate, target, r.u) >= closest for r in runs]
    winner = 0
    for k in range(1, len(runs)):
        if (not sound[k], runs[k].energy + BASIN_ENERGY) < (not sound[winner], runs[winner].energy):
            winner = k
    best = runs[winner]
    others = [
        r
        for r, fine in zip(runs, sound, strict=True)
        if fine and BASIN_ENERGY < r.energy - best.energy < 0.1 and target.norm(r.u - best.u) > 0.1
    ]
    second = min(others, key=lambda r: r.energy).u if others else None
    return Solution(surrogate, target, best, reference, constants, [r.energy - best.energy for r in others], second)
