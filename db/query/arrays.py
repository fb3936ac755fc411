"""Labels as contiguous arrays, a page of calculations at a time: what a training loop wants to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from farfield.db import schema
from farfield.db.labels import Array, accepted_answers
from farfield.db.query.pages import Hit
from farfield.db.rows import Prepared, among
from farfield.errors import RecordError
from farfield.oracles.packing import unpack_alike

__all__ = ["Block", "load_block"]

LABELS = ("E", "F", "V")


@dataclass(frozen=True)
class Block:
    """Structures and labels of n calculations with N atoms together, float64 and contiguous.

    Atoms of calculation i are `offsets[i]:offsets[i + 1]`. `numbers` (N,), `positions` and `forces` (N, 3) Å and eV/Å,
    `cells` (n, 3, 3) Å, `pbc` (n, 3), `energies` (n,) eV, `virials` (n, 6) eV in Voigt order xx yy zz yz xz xy.
    `has` (n, 3): whether E, F, V are there; where one is not, its numbers are NaN. `keys`: of the calculations.
    """

    ids: NDArray[np.int64]
    keys: tuple[str, ...]
    offsets: NDArray[np.int64]
    numbers: NDArray[np.int32]
    positions: Array = field(repr=False)
    cells: Array = field(repr=False)
    pbc: NDArray[np.bool_] = field(repr=False)
    energies: Array = field(repr=False)
    forces: Array = field(repr=False)
    virials: Array = field(repr=False)
    has: NDArray[np.bool_] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)


def load_block(connection: Connection, hits: Sequence[Hit]) -> Block:
    """The calculations of a page in its order. Raises RecordError for bytes that cannot be read."""
    ids = [h.id for h in hits]
    keys, cells = _structures(connection, ids)
    n = len(ids)
    counts = np.zeros(n, np.int64)
    groups = _alike(cells)
    for rows, _, arrays in groups:
        counts[rows] = arrays["numbers"].shape[1]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    atoms = int(offsets[-1])
    block = Block(
        np.array(ids, np.int64),
        keys,
        offsets,
        np.zeros(atoms, np.int32),
        np.zeros((atoms, 3)),
        np.zeros((n, 3, 3)),
        np.zeros((n, 3), bool),
        np.full(n, np.nan),
        np.full((atoms, 3), np.nan),
        np.full((n, 6), np.nan),
        np.zeros((n, 3), bool),
    )
    for rows, header, arrays in groups:
        where = _atoms(offsets, rows, arrays["numbers"].shape[1])
        block.numbers[where] = arrays["numbers"].reshape(-1)
        block.positions[where] = arrays["positions"].reshape(-1, 3)
        block.cells[rows] = arrays["cell"]
        # blobs of the first schema have it in the header
        block.pbc[rows] = arrays["pbc"] if "pbc" in arrays else header["pbc"]
    _fill_labels(connection, block, ids)
    return block


def _alike(blobs: Sequence[bytes]) -> list[tuple[NDArray[np.int64], dict[str, Any], dict[str, Any]]]:
    try:
        return unpack_alike(blobs)
    except ValueError as fault:
        raise RecordError(f"stored bytes cannot be read ({fault}); run `farfield db check`") from fault


def _atoms(offsets: NDArray[np.int64], rows: NDArray[np.int64], natoms: int) -> Any:
    """Places of the atoms of `rows`, which have `natoms` each; a slice where they follow each other."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(offsets[rows[0]], offsets[rows[-1] + 1])
    return (offsets[rows][:, None] + np.arange(natoms)).reshape(-1)


def _structures(connection: Connection, ids: Sequence[int]) -> tuple[tuple[str, ...], list[bytes]]:
    """Keys of calculations and the bytes of their structures. Raises RecordError where one is not there."""
    found = {i: (key, data) for i, key, data in _CELLS(connection, ids=list(ids))}
    if len(found) < len(ids):
        raise RecordError("a calculation lacks its structure; run `farfield db check`")
    return tuple(found[i][0] for i in ids), [found[i][1] for i in ids]


def _fill_labels(connection: Connection, block: Block, ids: Sequence[int]) -> None:
    """The arrays of each answer that counts, for those of E, F, V for which it does."""
    place = {i: row for row, i in enumerate(ids)}
    found = accepted_answers(connection, ids)
    rows = np.array([place[r[0]] for r in found], np.int64)
    masked = np.array([r[1:4] for r in found], bool).reshape(-1, 3)
    for places, _, arrays in _alike([r[4] for r in found]):
        for column, kind in enumerate(LABELS):
            mine = masked[places, column]
            if mine.any():
                if kind not in arrays:
                    raise RecordError(f"an answer lacks its {kind}; run `farfield db check`")
                _put(block, kind, rows[places[mine]], arrays[kind][mine])
                block.has[rows[places[mine]], column] = True


def _cells() -> Prepared:
    c, s, b = schema.calculation.c, schema.structure.c, schema.blob.c
    joined = select(c.id, c.key, b.data).join(schema.structure, s.id == c.structure_id)
    return Prepared(joined.join(schema.blob, b.id == s.blob_id).where(among(c.id, "ids")))


_CELLS = _cells()


def _put(block: Block, kind: str, rows: NDArray[np.int64], values: Array) -> None:
    """Labels of one kind to their rows. Raises RecordError for forces that do not belong to the cell."""
    if kind == "E":
        block.energies[rows] = values
    elif kind == "V":
        block.virials[rows] = values
    else:
        if (np.diff(block.offsets)[rows] != values.shape[1]).any():
            raise RecordError("forces are of another number of atoms than their cell; run `farfield db check`")
        block.forces[_atoms(block.offsets, rows, values.shape[1])] = values.reshape(-1, 3)
