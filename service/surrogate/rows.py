"""Design rows: what each column of the basis says about the energy, forces and virial of one cell.

E = rows.energy @ c (eV), F.ravel() = rows.forces @ c (eV/Å), V = rows.virial @ c (eV, -dE/d strain, xx yy zz yz xz xy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farfield.errors import BasisError
from farfield.service.surrogate.kernels.compiled import design_rows
from farfield.service.surrogate.kernels.pairs import Pairs, neighbours

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.service.surrogate.basis import Basis

__all__ = ["Rows", "affected_centres", "design", "force_constant_rows"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """`energy` (K,), `forces` (3N, K) in Fortran order, row 3 i + x for atom i, `virial` (6, K)."""

    energy: Array
    forces: Array
    virial: Array


def design(basis: Basis, atoms: Atoms, centres: ArrayLike | None = None, pairs: Pairs | None = None) -> Rows:
    """Rows of `atoms`, one-body columns (counts of atoms) last.

    `centres` (indices) restricts the sum over sites: for differences only those whose neighbourhood changes need to
    be summed (`affected_centres`). `pairs` reuses a list. Raises BasisError for atoms the basis cannot describe.
    """
    found = neighbours(basis, atoms) if pairs is None else pairs
    n, B, S = len(atoms), len(basis.functions), len(basis.species)
    chosen = np.arange(n) if centres is None else np.unique(np.asarray(centres, np.int64))
    if chosen.size and not 0 <= chosen[0] <= chosen[-1] < n:
        raise BasisError(f"centres must be atom indices below {n}; check the site")
    K = basis.size
    E, F, V = np.zeros(K), np.zeros((K, 3 * n)), np.zeros((K, 6))
    design_rows(basis.layout, chosen, found.species, found.ptr, found.j, found.offset, found.positions, E, F, V)
    E[B * S :] = np.bincount(found.species[chosen], minlength=S)
    return Rows(E, F.T, V.T)


def affected_centres(pairs: Pairs, site: int) -> NDArray[np.int64]:
    """Sites whose energy depends on atom `site`: itself and the centres of its pairs."""
    centre = np.repeat(np.arange(len(pairs.species)), np.diff(pairs.ptr))
    return np.unique(np.append(centre[pairs.j == site], site)).astype(np.int64)


def force_constant_rows(
    basis: Basis, atoms: Atoms, site: int, direction: Sequence[float] | Array, step: float
) -> Array:
    """Rows (3N, K), Fortran order, of the force-constant column -dF/du of `site` along unit `direction`, eV/Å^2.

    Central differences of the force rows at +-`step` (Å), summing only the sites that see the moved atom; take the same
    step as the label, so that its error of order step^2 cancels.
    """
    unit = np.asarray(direction, float) / np.linalg.norm(direction)
    pairs = neighbours(basis, atoms, skin=2.1 * abs(step))
    centres = affected_centres(pairs, site)
    sides = []
    for sign in (1, -1):
        moved = pairs.positions.copy()
        moved[site] += sign * step * unit
        shifted = Pairs(pairs.species, pairs.ptr, pairs.j, pairs.offset, moved)
        sides.append(design(basis, atoms, centres, shifted).forces)
    result: Array = (sides[1] - sides[0]) / (2 * step)
    return result
