"""Structure families: cells that are one cell, rattled, strained or relaxed. A split keeps a family on one side.

Two cells are of one family when both lie close to a common third one: the same species in the same order and the same
periodicity, cell vectors within 15 % of strain, and no atom further than half of the shortest bond from its place,
whole translations and lattice vectors apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.errors import RecordError

__all__ = ["Families", "assigned", "check_parts"]

STRAIN, BOND = 0.15, 0.5
Array = NDArray[np.float64]


@dataclass
class _Bucket:
    """The first cells of each family that share species and periodicity."""

    cells: list[Array] = field(default_factory=list)
    places: list[Array] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)
    family: list[int] = field(default_factory=list)


class Families:
    """Families of the cells that were added; a number each, final once all are added (`of`)."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, _Bucket] = {}
        self._parent: list[int] = []

    def add(self, atoms: Atoms) -> int:
        """Take a cell in; a provisional number that `of` turns into its family."""
        key = hashlib.sha256(bytes(atoms.numbers.astype("u1")) + bytes(np.asarray(atoms.pbc, "u1"))).digest()
        bucket = self._buckets.setdefault(key, _Bucket())
        cell, places = _affine(atoms)
        close = [bucket.family[k] for k in _close(bucket, cell, places, np.asarray(atoms.pbc, float))]
        if close:
            roots = sorted({self.of(n) for n in close})
            for root in roots[1:]:
                self._parent[root] = roots[0]
            return roots[0]
        new = len(self._parent)
        self._parent.append(new)
        bucket.cells.append(cell)
        bucket.places.append(places)
        bucket.reach.append(_shortest(atoms) * BOND)
        bucket.family.append(new)
        return new

    def of(self, number: int) -> int:
        """The family that `number` belongs to now."""
        while self._parent[number] != number:
            number = self._parent[number]
        return number


def _affine(atoms: Atoms) -> tuple[Array, Array]:
    """The cell, and positions in it: fractional along periodic directions, else Å. Missing vectors are completed."""
    whole = np.asarray(atoms.cell.complete().array, float)
    return whole, np.linalg.solve(whole.T, atoms.positions.T).T


def _close(bucket: _Bucket, cell: Array, places: Array, periodic: Array) -> list[int]:
    """The first cells that this one is close to."""
    if not bucket.cells:
        return []
    cells = np.array(bucket.cells)
    strain = np.abs(np.linalg.solve(cells, np.broadcast_to(cell, cells.shape)) - np.eye(3)).max(axis=(1, 2))
    out = []
    for k in np.flatnonzero(strain < STRAIN):
        moved = places - bucket.places[k]
        moved -= moved[0]
        moved -= np.round(moved) * periodic  # relative to the first atom, by the shortest way
        moved -= moved.mean(axis=0)
        if np.linalg.norm(moved @ bucket.cells[k], axis=1).max() < bucket.reach[k]:
            out.append(int(k))
    return out


def _shortest(atoms: Atoms) -> float:
    """The shortest distance between two atoms or images, Å, 2.5 for a lone atom."""
    from ase.neighborlist import neighbor_list

    for cutoff in (3.0, 6.0, 12.0):
        found = neighbor_list("d", atoms, cutoff)
        if len(found):
            return float(found.min())
    return 2.5


def check_parts(parts: Mapping[str, float]) -> None:
    """Raises RecordError for a split that means nothing."""
    if len(parts) < 2 or any(not share > 0 for share in parts.values()) or abs(sum(parts.values()) - 1) > 1e-6:
        raise RecordError("a split has two or more parts with shares that add up to 1, such as train=0.8,test=0.2")


def assigned(
    sizes: Mapping[int, int], keys: Mapping[int, str], parts: Mapping[str, float], seed: int
) -> dict[int, str]:
    """A part for every family: families in an order that the seed shuffles, each to the part that lacks most.

    `sizes`: members by family; `keys`: a name of each family that does not hang on the order of rows. Raises
    RecordError when a part stays empty.
    """
    total = sum(sizes.values())
    order = sorted(sizes, key=lambda f: (-sizes[f], hashlib.sha256(f"{seed}/{keys[f]}".encode()).hexdigest()))
    lacks: dict[str, Any] = {name: share * total for name, share in parts.items()}
    out = {}
    for family in order:
        part = max(lacks, key=lambda name: (lacks[name], name))
        lacks[part] -= sizes[family]
        out[family] = part
    empty: Sequence[str] = [name for name in parts if name not in out.values()]
    if empty:
        raise RecordError(
            f"{len(sizes)} structure families leave the part {empty[0]!r} empty; widen the query, or ask for fewer"
        )
    return out
