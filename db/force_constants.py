"""FC columns: observations derived from displaced calculations, and linked to them (decisions A2).

Every function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from sqlalchemy import Connection, insert, select

from farfield.db import schema
from farfield.db.blobs import load_blob, store_blob
from farfield.db.calculations import calculation_ids, insert_new, oracle_id, store_calculations
from farfield.db.clock import now
from farfield.db.identity import calculation_key, structure_key
from farfield.db.labels import Array
from farfield.errors import RecordError
from farfield.oracles.packing import pack, unpack

__all__ = ["Part", "StoredColumn", "columns", "store"]

Part = tuple[str, float, Any]
"""Key of a displaced calculation, its signed step in Å, the (3, 3) operation applied to its forces."""


@dataclass(frozen=True)
class StoredColumn:
    """One column of d2E/du2: -dF/du of `site` along `direction`, (N, 3) eV/Å^2, and the `parts` it is made of."""

    site: int
    direction: tuple[float, float, float]
    step: float
    column: Array
    parts: tuple[Part, ...]


def store(
    connection: Connection,
    atoms: Atoms,
    fingerprint: str,
    site: int,
    direction: Sequence[float],
    step: float,
    column: Array,
    parts: Iterable[Part],
) -> bool:
    """Store a column of the undisplaced cell `atoms`; False where it is there already.

    Unique by cell, fingerprint, site, direction and step. Raises RecordError for a wrong shape or values that are not
    finite, or when a displaced calculation has no accepted forces.
    """
    values = np.asarray(column, dtype="<f8")
    way = [float(x) + 0.0 for x in direction]
    if values.shape != (len(atoms), 3) or not np.isfinite(values).all() or len(way) != 3:
        raise RecordError(f"a force-constant column of {len(atoms)} atoms has shape {values.shape}; expected (N, 3)")
    made = list(parts)
    ids = calculation_ids(connection, [key for key, _, _ in made])
    o = schema.observation.c
    with_forces = set(
        connection.scalars(select(o.calculation_id).where(o.calculation_id.in_(ids.values()), o.kind == "F"))
    )
    if not made or with_forces != set(ids.values()):
        raise RecordError("a force-constant column needs displaced calculations with accepted forces")
    ((calculation, _),) = store_calculations(connection, oracle_id(connection, fingerprint), [atoms])
    detail = f"{int(site)} {way[0]!r} {way[1]!r} {way[2]!r} {float(step)!r}"
    if connection.scalars(select(o.id).where(o.calculation_id == calculation, o.detail == detail)).first() is not None:
        return False
    header = {"format": "farfield force constants 1", "site": int(site), "direction": way, "step": float(step)}
    new = connection.scalars(
        insert_new(connection, schema.observation)
        .values(
            calculation_id=calculation,
            kind="FC",
            detail=detail,
            value=float(np.abs(values).max()),
            blob_id=store_blob(connection, pack(header, {"column": values})),
            accepted=now(),
        )
        .returning(o.id)
    ).one_or_none()
    if new is None:
        return False
    rows = [
        {
            "observation_id": new,
            "ordinal": k,
            "calculation_id": ids[key],
            "step": float(signed),
            "rotation": np.asarray(rotation).tolist(),
        }
        for k, (key, signed, rotation) in enumerate(made)
    ]
    connection.execute(insert(schema.fc_link), rows)
    return True


def columns(connection: Connection, atoms: Atoms, fingerprint: str) -> list[StoredColumn]:
    """The stored columns of the undisplaced cell `atoms` by the oracle with this fingerprint hash, as they came."""
    o, c, link = schema.observation.c, schema.calculation.c, schema.fc_link.c
    key = calculation_key(structure_key(atoms), fingerprint)
    rows = connection.execute(
        select(o.id, o.blob_id)
        .join(schema.calculation, c.id == o.calculation_id)
        .where(c.key == key, o.kind == "FC")
        .order_by(o.id)
    ).all()
    out = []
    for row in rows:
        header, arrays = unpack(load_blob(connection, row.blob_id))
        parts = connection.execute(
            select(c.key, link.step, link.rotation)
            .join(schema.calculation, c.id == link.calculation_id)
            .where(link.observation_id == row.id)
            .order_by(link.ordinal)
        )
        made = tuple((r.key, r.step, r.rotation) for r in parts)
        out.append(StoredColumn(header["site"], tuple(header["direction"]), header["step"], arrays["column"], made))
    return out
