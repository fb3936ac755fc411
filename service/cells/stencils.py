"""Which bonds the D norm of a crystal counts (theory.md section 1).

They must span space and connect all sites of the infinite lattice, sublattices included, so that ||Du|| controls
macroscopic strain and shifts alike. The smallest set of neighbour shells that does is taken.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from vesin import ase_neighbor_list

from farfield.errors import CrystalError

__all__ = ["bond_cutoff", "connects", "shortest"]

Array = NDArray[np.float64]

GAP = 0.08
"""Distances closer than this share are one shell, so that a small change of c/a moves no bond in or out."""
REACH = 3.0
"""Shells are looked for within this many nearest-neighbour distances."""


def _crystal(cell: Array, basis: Array) -> Atoms:
    return Atoms(["H"] * len(basis), scaled_positions=basis, cell=cell, pbc=True)


def shortest(cell: Array, basis: Array) -> float:
    """The nearest-neighbour distance of sites `basis` (n_b, 3, fractional) in `cell` (3, 3) Å."""
    atoms = _crystal(cell, basis)
    reach = float((abs(np.linalg.det(cell)) / len(basis)) ** (1 / 3))
    for _ in range(20):
        _, d = ase_neighbor_list("id", atoms, reach)
        if len(d):
            return float(d.min())
        reach *= 1.5
    raise CrystalError("the host has no neighbours within reach; check its cell and sites")


def bond_cutoff(cell: Array, basis: Array) -> float:
    """Cut-off in Å after the smallest shells whose bonds connect the crystal, in the middle of the gap that follows.

    Raises CrystalError where none within three nearest-neighbour distances do.
    """
    near = shortest(cell, basis)
    i, j, d, S = ase_neighbor_list("ijdS", _crystal(cell, basis), REACH * near)
    order = np.sort(d)
    ends = order[:-1][np.diff(order) > GAP * order[:-1]]
    for end in ends:
        use = d <= end * (1 + 1e-9)
        if connects(i[use], j[use], S[use], cell, basis):
            following = float(order[order > end * (1 + 1e-9)][0])
            return float(min(0.5 * (end + following), 1.1 * end))
    raise CrystalError("no shell of bonds connects the host's sites; check its cell and sites")


def connects(i: NDArray[np.int64], j: NDArray[np.int64], shifts: NDArray[np.int64], cell: Array, basis: Array) -> bool:
    """Whether bonds i -> j + `shifts` (M, 3 in cells) span space and join all sites of the infinite lattice.

    The cycles of the bond graph must generate every lattice translation: the greatest common divisor of the 3 x 3
    minors of their translations is one.
    """
    vectors = (basis[j] + shifts - basis[i]) @ cell
    if np.linalg.matrix_rank(vectors, tol=1e-6) < 3:
        return False
    n = len(basis)
    where: dict[int, NDArray[np.int64]] = {0: np.zeros(3, np.int64)}
    queue = [0]
    while queue:
        at = queue.pop()
        for k in np.flatnonzero(i == at):
            to = int(j[k])
            if to not in where:
                where[to] = where[at] + shifts[k].astype(np.int64)
                queue.append(to)
    if len(where) < n:
        return False
    offset = np.array([where[b] for b in range(n)])
    cycles = np.unique(offset[i] + shifts.astype(np.int64) - offset[j], axis=0)
    return _index(cycles) == 1


def _index(vectors: NDArray[np.int64]) -> int:
    """Index in Z^3 of the lattice that integer vectors (M, 3) generate; 0 where they do not span (row reduction)."""
    rows = [[int(x) for x in v] for v in vectors if v.any()]
    product = 1
    for column in range(3):
        while True:
            rows.sort(key=lambda r: (r[column] == 0, abs(r[column])))
            if not rows or rows[0][column] == 0:
                return 0
            lead = rows[0]
            rest = []
            for r in rows[1:]:
                q = r[column] // lead[column]
                rest.append([x - q * y for x, y in zip(r, lead, strict=True)])
            done = all(r[column] == 0 for r in rest)
            rows = [lead, *rest]
            if done:
                break
        product *= abs(rows[0][column])
        rows = [r for r in rows[1:] if any(r)]
    return product
