"""Labels as contiguous arrays, a page of calculations at a time: what a training loop wants to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Integer, case, func, select

from farfield.db import schema
from farfield.db.blobs import blocks
from farfield.db.labels import Array, result_values
from farfield.db.query.pages import Hit
from farfield.oracles.packing import unpack

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
    """The calculations of a page in its order."""
    ids = [h.id for h in hits]
    cells = _structures(connection, ids)
    found = _results(connection, ids)
    counts = [len(cells[i][1]["numbers"]) for i in ids]
    offsets = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    n, atoms = len(ids), int(offsets[-1])
    forces, energies, virials = np.full((atoms, 3), np.nan), np.full(n, np.nan), np.full((n, 6), np.nan)
    has = np.zeros((n, 3), bool)
    for row, i in enumerate(ids):
        for arrays, mask in found.get(i, ()):
            if mask[0]:
                energies[row] = arrays["E"]
            if mask[1]:
                forces[offsets[row] : offsets[row + 1]] = arrays["F"]
            if mask[2]:
                virials[row] = arrays["V"]
            has[row] |= mask
    every = [cells[i][1] for i in ids]
    return Block(
        np.array(ids, np.int64),
        tuple(cells[i][0] for i in ids),
        offsets,
        _joined([x["numbers"] for x in every], (0,)).astype(np.int32),
        _joined([x["positions"] for x in every], (0, 3)),
        np.array([x["cell"] for x in every]).reshape(-1, 3, 3),
        np.array([x["pbc"] for x in every], bool).reshape(-1, 3),
        energies,
        forces,
        virials,
        has,
    )


def _joined(parts: list[Any], empty: tuple[int, ...]) -> Any:
    return np.concatenate(parts) if parts else np.zeros(empty)


def _structures(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    c, s, b = schema.calculation.c, schema.structure.c, schema.blob.c
    out: dict[int, tuple[str, dict[str, Any]]] = {}
    for block in blocks(ids):
        query = (
            select(c.id, c.key, b.data)
            .join(schema.structure, s.id == c.structure_id)
            .join(schema.blob, b.id == s.blob_id)
            .where(c.id.in_(block))
        )
        for i, key, data in connection.execute(query):
            header, arrays = unpack(bytes(data))
            if "pbc" not in arrays:
                arrays["pbc"] = np.array(header["pbc"])  # blobs of the first schema have it in the header
            out[i] = key, arrays
    return out


def _results(connection: Connection, ids: Sequence[int]) -> dict[int, list[tuple[dict[str, Array], Any]]]:
    """By calculation: the arrays of each answer that counts, and for which of E, F, V it does."""
    o, b = schema.observation.c, schema.blob.c
    out: dict[int, list[tuple[dict[str, Array], Any]]] = {}
    for block in blocks(ids):
        masks = [func.max(case((o.kind == kind, 1), else_=0)).cast(Integer).label(kind) for kind in LABELS]
        which = (
            select(o.calculation_id, o.blob_id, *masks)
            .where(o.calculation_id.in_(block), o.detail == "")
            .group_by(o.calculation_id, o.blob_id)
            .subquery()
        )
        query = select(which.c.calculation_id, which.c.E, which.c.F, which.c.V, b.data).join(
            schema.blob, b.id == which.c.blob_id
        )
        for i, *mask, data in connection.execute(query):
            out.setdefault(i, []).append((result_values(bytes(data))[0], np.array(mask, bool)))
    return out
