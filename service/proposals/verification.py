"""The verification call: the surrogate's target-cell solution restricted to the next rung, plus a small rattle."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.service.cells import DefectCell

__all__ = ["DIGITS", "rattle", "rounded", "verification_cell"]

Array = NDArray[np.float64]

DIGITS = 8
"""Positions are rounded to 1e-8 Å when proposed (decisions A1)."""


def rattle(eta_previous: float | None, quiet: float = float("inf")) -> float:
    """clip(0.1 eta_prev, 0.002, 0.02) Å; 0.02 on the first call (theory.md c4); at most `quiet` Å, yet no less than
    0.002, where the oracle is noisy."""
    wanted = 0.02 if eta_previous is None else 0.1 * eta_previous
    return float(np.clip(min(wanted, quiet), 0.002, 0.02))


def rounded(atoms: Atoms) -> Atoms:
    """`atoms` with positions rounded to 1e-8 Å."""
    atoms.positions[:] = np.round(atoms.positions, DIGITS)
    return atoms


def verification_cell(cell: DefectCell, target: DefectCell, u: Array, sigma: float, rng: np.random.Generator) -> Atoms:
    """The rattled call's atoms: restricted, not re-relaxed (theory.md c3), `sigma` Å of normal noise."""
    y = cell.restrict(target, u) + sigma * rng.normal(size=(cell.natoms, 3))
    return rounded(cell.atoms(y))
