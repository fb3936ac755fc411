"""Extrapolation grade: how far the forces of a cell lie outside of what the fit has seen.

With Phi_i (3, K) the force rows of atom i, T the factor of the fit (T^T T = sum_t w_t^2 A_t^T A_t + prior) and w_F the
weight of forces, g_i = w_F sqrt(lambda_max(Phi_i (T^T T)^-1 Phi_i^T)): the spread of the atom's force in its least
known direction, in units of the noise. It does not depend on how the cell is turned. An atom whose force is in the fit
has g_i <= 1; a larger grade says that no observation of the fit knows that force as its own would. More rows never
raise it at the same prior strength. It is the leverage of linear regression, which serves as the D-optimal grade of
Podryabinkin and Shapeev, Comp. Mater. Sci. 140, 171 (2017), without a choice of active rows.

Measured against the leverage of the sites' own invariants (Cu by EMT, Si by Stillinger-Weber, four training sets each,
cells with and without vacancies, rattled and strained inside and outside of the training range): rank correlation
with the error of an atom's force 0.90 to 0.97 against 0.85 to 0.91, of cells 0.92 to 0.99 against 0.84 to 0.98; among
the atoms of one cell inside the range, whose errors are all small, 0.2 to 0.5. A double vacancy has 2.7 to 7.5 where
only single ones were in the fit, 0.5 to 1.0 once some are; unseen cells like those of the fit have 0.3 to 2.6, less
with more of them. The error itself is larger than grade times noise, which leaves out the bias of the basis. Forces
that vanish by symmetry are known without data and have grade 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farfield.errors import FitError
from farfield.service.surrogate.kernels.pairs import Pairs, neighbours
from farfield.service.surrogate.rows import design

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.service.surrogate.basis import Basis
    from farfield.service.surrogate.regression.posterior import Posterior

__all__ = ["BLOCK", "Grade", "grade", "site_grades"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

BLOCK = 2000
"""Atoms whose force rows are held at once; cells of up to four times as many are not cut."""

WHITENED = 256
"""Atoms whitened at once."""


@dataclass(frozen=True)
class Grade:
    """`sites` (N,) grade of each atom's force; `energy` that of the cell's energy."""

    sites: Array
    energy: float

    @property
    def cell(self) -> float:
        """The largest of the sites."""
        return float(self.sites.max())

    @property
    def worst(self) -> int:
        """The atom that has it."""
        return int(self.sites.argmax())


def grade(
    posterior: Posterior, basis: Basis, atoms: Atoms, reference: ArrayLike | None = None, *, block: int = BLOCK
) -> Grade:
    """Grades of `atoms` under the fit that gave `posterior`, with its weights of E and F (1 where it has none).

    `reference` (K,) energy row to subtract, as in the fit's energy labels: n_cells times that of the host cell. Without
    one, the grade of the energy includes that of the one-body columns, which only energies fix. `block` bounds the
    memory for large cells (about 80 MB for 300 functions), at two to three times the work. Raises BasisError for atoms
    the basis cannot describe, FitError for a posterior of another basis.
    """
    basis = _unfaded(basis)
    pairs = neighbours(basis, atoms)
    sites = np.zeros(len(atoms))
    energy = np.zeros(basis.size)
    unit = replace(posterior, noise=1.0)  # a noise of next to nothing would underflow when squared
    weight_f, weight_e = (posterior.weights.get(kind) or 1.0 for kind in "FE")
    for members, rows, part in _force_rows(basis, atoms, pairs, block):
        energy += part
        for start in range(0, len(members), WHITENED):
            piece = members[start : start + WHITENED]
            sites[piece] = site_grades(unit.whiten(rows[3 * start : 3 * (start + len(piece))]), weight_f)
    if reference is not None:
        row = np.asarray(reference, float)
        if row.shape != energy.shape:
            raise FitError(f"the reference row {row.shape} has not the basis' {basis.size} columns; design it again")
        energy = energy - row
    return Grade(sites, weight_e * float(np.sqrt(unit.quadratic(energy))))


def site_grades(whitened: Array, scale: float) -> Array:
    """(n,) grades from whitened force rows (K, 3n) of n atoms (`Posterior.whiten`); `scale` is w_F over the noise."""
    W = whitened.T.reshape(-1, 3, len(whitened))
    largest = np.linalg.eigvalsh(W @ W.transpose(0, 2, 1))[:, -1]
    return np.asarray(scale * np.sqrt(np.maximum(largest, 0.0)))


@lru_cache(maxsize=4)
def _unfaded(basis: Basis) -> Basis:
    """The basis without its core, kept because its index arrays take long to build."""
    return replace(basis, core=0.0)


def _force_rows(basis: Basis, atoms: Atoms, pairs: Pairs, block: int) -> Iterator[tuple[Index, Array, Array]]:
    """(atoms (n,), their force rows (3n, K), energy row (K,) of their sites) for parts of the cell.

    A part's forces need all centres that see its atoms, so a part is compact and its margin is computed again.
    """
    n = len(atoms)
    if n <= 4 * block:
        rows = design(basis, atoms, pairs=pairs)
        yield np.arange(n), rows.forces, rows.energy
        return
    fractions = atoms.get_scaled_positions(wrap=True) if atoms.cell.rank == 3 else None
    x = atoms.positions if fractions is None else fractions @ atoms.cell.array
    for members in _compact(np.arange(n), x, block):
        centres = np.unique(np.append(_seen(pairs, members), members))
        held = np.unique(np.append(_seen(pairs, centres), centres))
        local = np.searchsorted(held, centres)
        part = _restricted(pairs, centres, held)
        mine = np.searchsorted(held, members)
        forces = design(basis, atoms[held], local, part).forces
        energy = design(basis, atoms[held], mine, part).energy
        yield members, forces.T.reshape(basis.size, -1, 3)[:, mine].reshape(basis.size, -1).T, energy


def _compact(members: Index, x: Array, block: int) -> Iterator[Index]:
    """`members` halved along their longest extent until no part has more than `block`."""
    if len(members) <= block:
        yield members
        return
    extent = x[members].max(axis=0) - x[members].min(axis=0)
    order = members[np.argsort(x[members, int(extent.argmax())], kind="stable")]
    for half in np.array_split(order, 2):
        yield from _compact(np.sort(half), x, block)


def _seen(pairs: Pairs, centres: Index) -> Index:
    """Neighbours of `centres`, with repeats."""
    return pairs.j[_runs(pairs, centres)]


def _runs(pairs: Pairs, centres: Index) -> Index:
    """Indices of the pairs of `centres`, in their order."""
    counts = pairs.ptr[centres + 1] - pairs.ptr[centres]
    ends = np.cumsum(counts)
    return np.repeat(pairs.ptr[centres] - ends + counts, counts) + np.arange(ends[-1])


def _restricted(pairs: Pairs, centres: Index, held: Index) -> Pairs:
    """The list of the atoms `held` alone, with the pairs of `centres` only."""
    run = _runs(pairs, centres)
    counts = np.zeros(len(held), np.int64)
    counts[np.searchsorted(held, centres)] = pairs.ptr[centres + 1] - pairs.ptr[centres]
    return replace(
        pairs,
        species=pairs.species[held],
        ptr=np.append(0, np.cumsum(counts)),
        j=np.searchsorted(held, pairs.j[run]),
        offset=np.ascontiguousarray(pairs.offset[run]),
        positions=np.ascontiguousarray(pairs.positions[held]),
    )
