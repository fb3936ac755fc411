"""Neighbour lists: pairs sorted by centre, and within a centre by neighbour species.

r_ij = x_j + offset - x_i runs over all periodic images within the cutoff, an atom's own images included, so cells
smaller than the cutoff need nothing special.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from vesin import NeighborList

from farfield.errors import BasisError

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.service.surrogate.basis import Basis

__all__ = ["CLOSEST", "Pairs", "find_pairs", "neighbours", "species_index"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

CLOSEST = 0.05
"""Atoms nearer than this share of the smallest r0 count as coincident."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of one cell.

    `species` (N,) basis species of each atom; `ptr` (N + 1,) run of each centre; `j` (M,) neighbour; `offset` (M, 3)
    its lattice translation, Å; `positions` (N, 3) those for which the list was built, Å.
    """

    species: Index
    ptr: Index
    j: Index
    offset: Array
    positions: Array

    @property
    def vectors(self) -> Array:
        """r_ij (M, 3), Å."""
        i = np.repeat(np.arange(len(self.species)), np.diff(self.ptr))
        result: Array = self.positions[self.j] + self.offset - self.positions[i]
        return result


def species_index(basis: Basis, symbols: Sequence[str]) -> Index:
    """(N,) index of each symbol in the basis. Raises BasisError for a symbol the basis does not know."""
    known = {s: z for z, s in enumerate(basis.species)}
    try:
        return np.array([known[s] for s in symbols], np.int64)
    except KeyError as error:
        names = ", ".join(basis.species)
        raise BasisError(
            f"the surrogate knows {names}, not {error.args[0]}; name every species in the campaign"
        ) from None


def find_pairs(
    basis: Basis, species: Index, positions: Array, cell: Array, pbc: ArrayLike = True, skin: float = 0.0
) -> Pairs:
    """All pairs within cutoff + `skin` (Å) of atoms at `positions` (N, 3) in `cell` (3, 3), Å.

    Raises BasisError for no atoms, values that are not finite, a flat periodic cell or coincident atoms.
    """
    positions = np.array(positions, float)
    cell = np.array(cell, float)
    periodic = np.broadcast_to(np.asarray(pbc, bool), (3,))
    n = len(species)
    if n == 0 or positions.shape != (n, 3):
        raise BasisError(f"positions of shape {positions.shape} do not describe {n} atoms; give at least one atom")
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise BasisError("positions or cell are not finite; the geometry step that made them failed")
    if periodic.all() and abs(np.linalg.det(cell)) < 1e-6:
        raise BasisError("the cell has no volume; give three independent lattice vectors")
    search = NeighborList(cutoff=basis.cutoff + skin, full_list=True, sorted=True, n_threads=1)
    i, j, shift, d = search.compute(points=positions, box=cell, periodic=periodic, quantities="ijSd")
    if d.size and d.min() < CLOSEST * basis.nearest:
        at = int(np.argmin(d))
        raise BasisError(f"atoms {i[at]} and {j[at]} are {d[at]:.3f} Å apart; they coincide, move or remove one")
    i, j = i.astype(np.int64), j.astype(np.int64)
    key = i if len(basis.species) == 1 else i * len(basis.species) + species[j]
    order = np.argsort(key, kind="stable")
    ptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(i, minlength=n), out=ptr[1:])
    return Pairs(species, ptr, j[order], np.ascontiguousarray(shift[order].astype(float) @ cell), positions)


def neighbours(basis: Basis, atoms: Atoms, skin: float = 0.0) -> Pairs:
    """`find_pairs` of ASE atoms."""
    species = species_index(basis, atoms.get_chemical_symbols())
    return find_pairs(basis, species, atoms.positions, np.asarray(atoms.cell), atoms.pbc, skin)
