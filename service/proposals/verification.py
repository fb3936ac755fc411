"""The verification call: the surrogate's target-cell solution restricted to the next rung.

It is not rattled, where theory.md c4 adds some noise of up to 0.02 Å. A rattle's bias can be taken out far from the
defect, with the perfect lattice's force constants (C5), but not near it. Measured with and without (five defects, two
bases, seven rungs each, docs/effectivity.md): without, eta / true on complete rungs lies in [0.44, 1.31] instead of
[0.50, 2.80] (alike after the aliasing is taken out, `estimates.residual`), 94 to 100 % of the energies are within 35 %
instead of 76 %, and the true error after the same rungs is the same or up to four times smaller. What breaks the
symmetry is learnt from the rattled first cells. A call that is asked again is rattled, so that it is another one.
"""

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
    """Å of a call that is asked again: clip(0.1 eta_prev, 0.002, 0.02), 0.02 where there is no estimate yet; at most
    `quiet` Å, yet no less than 0.002, where the oracle is noisy."""
    wanted = 0.02 if eta_previous is None else 0.1 * eta_previous
    return float(np.clip(min(wanted, quiet), 0.002, 0.02))


def rounded(atoms: Atoms) -> Atoms:
    """`atoms` with positions rounded to 1e-8 Å."""
    atoms.positions[:] = np.round(atoms.positions, DIGITS)
    return atoms


def verification_cell(cell: DefectCell, target: DefectCell, u: Array, sigma: float, rng: np.random.Generator) -> Atoms:
    """The call's atoms: restricted, not re-relaxed (theory.md c3), with `sigma` Å of normal noise."""
    y = cell.restrict(target, u) + sigma * rng.normal(size=(cell.natoms, 3))
    return rounded(cell.atoms(y))
