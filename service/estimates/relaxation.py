"""Relaxation of a defect cell at fixed cell, preconditioned by the lattice Green operator.

L-BFGS whose initial inverse Hessian is the FFT operator (H^h_k)^-1: 5-10 steps for a vacancy where a plain one takes
hundreds, because the stiffness of long waves is known (theory.md section 3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import DefectCell
from farfield.service.estimates.lattice import LatticeOperator

__all__ = ["Preconditioner", "Relaxation", "relax"]

Array = NDArray[np.float64]
EnergyForces = Callable[[Array], tuple[float, Array]]
"""positions (N, 3) Å -> energy eV, forces (N, 3) eV/Å."""

ADDED_COMPLIANCE = 0.1
"""Å^2/eV, the preconditioner's diagonal for added atoms (theory.md section 3)."""


class Preconditioner:
    """G_hom on the atoms of a defect cell: sites by FFT, added atoms by a diagonal; no translation."""

    def __init__(self, cell: DefectCell, operator: LatticeOperator) -> None:
        if operator.size != cell.size:
            raise ValueError(f"operator of size {operator.size} for a cell of size {cell.size}")
        self.cell, self.operator = cell, operator

    def __call__(self, g: Array) -> Array:
        """G g in Å for g (N, 3) in eV/Å."""
        g = g - g.mean(axis=0)
        z = self.cell.from_sites(self.operator.solve(self.cell.on_sites(g)))
        if self.cell.added:
            z[-self.cell.added :] = ADDED_COMPLIANCE * g[-self.cell.added :]
        return np.asarray(z - z.mean(axis=0))


@dataclass(frozen=True)
class Relaxation:
    """Displacement `u` (N, 3) Å with zero mean, `energy` eV, largest `force` component eV/Å, `steps`, `converged`."""

    u: Array
    energy: float
    force: float
    steps: int
    converged: bool


def relax(
    evaluate: EnergyForces,
    cell: DefectCell,
    u0: Array,
    precondition: Callable[[Array], Array],
    *,
    force_tolerance: float = 1e-5,
    max_steps: int = 150,
    memory: int = 12,
    max_move: float = 0.15,
) -> Relaxation:
    """Minimise the energy over positions x0 + u from `u0` (N, 3).

    `force_tolerance` in eV/Å on the largest component, net force removed; `max_move` in Å bounds one step of an atom.
    A step is accepted on the energy, or on smaller forces where the energy no longer resolves the change.
    """
    u = u0 - u0.mean(axis=0)
    energy, forces = evaluate(cell.x0 + u)
    g = -(forces - forces.mean(axis=0))
    pairs: deque[tuple[Array, Array, float]] = deque(maxlen=memory)
    steps = 0
    while steps < max_steps and np.abs(g).max() >= force_tolerance:
        steps += 1
        direction = -_inverse(g, pairs, precondition)
        slope = float((direction * g).sum())
        if slope >= 0:
            pairs.clear()
            direction = -precondition(g)
            slope = float((direction * g).sum())
        t = min(1.0, max_move / float(np.sqrt((direction**2).sum(axis=1)).max()))
        resolution = 1e-12 * max(1.0, abs(energy))
        for _ in range(8):
            trial = u + t * direction
            e, f = evaluate(cell.x0 + trial)
            gt = -(f - f.mean(axis=0))
            if e <= energy + 1e-4 * t * slope:
                break
            if e <= energy + 10 * resolution and np.abs(gt).max() < np.abs(g).max():
                break
            t *= 0.4
        else:
            if not pairs:
                break  # no descent even along the preconditioned gradient: the forces' noise floor
            pairs.clear()
            continue
        s, y = trial - u, gt - g
        curvature = float((s * y).sum())
        if curvature > 1e-14:
            pairs.append((s, y, curvature))
        u, energy, g = trial, e, gt
    force = float(np.abs(g).max())
    return Relaxation(u - u.mean(axis=0), float(energy), force, steps, force < force_tolerance)


def _inverse(g: Array, pairs: deque[tuple[Array, Array, float]], precondition: Callable[[Array], Array]) -> Array:
    """The two-loop recursion: inverse Hessian times g."""
    q = g.copy()
    weights = []
    for s, y, sy in reversed(pairs):
        a = float((s * q).sum()) / sy
        weights.append(a)
        q -= a * y
    z = precondition(q)
    for (s, y, sy), a in zip(pairs, reversed(weights), strict=True):
        z += (a - float((y * z).sum()) / sy) * s
    return z
