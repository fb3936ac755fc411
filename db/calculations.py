"""Structures, oracles and calculations, each stored once under its content key (decisions A2, A3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms
from sqlalchemy import Connection, Table, func, select

from farfield.db import schema
from farfield.db.blobs import blocks, store_blobs
from farfield.db.identity import calculation_key, formula, stored_bytes, structure_key
from farfield.db.rows import insert_or_skip
from farfield.errors import RecordError

__all__ = ["calculation_ids", "insert_new", "oracle_id", "store_calculations", "store_oracle"]

LOCK = 0x66617263
"""PostgreSQL advisory lock of those who store structures."""


def insert_new(connection: Connection, table: Table) -> Any:
    """INSERT ... ON CONFLICT DO NOTHING in the connection's dialect; the winner's row stays."""
    return insert_or_skip(connection.dialect.name, table)


def store_oracle(connection: Connection, fingerprint: Mapping[str, Any]) -> int:
    """Row id of the oracle with this fingerprint (JSON-able), inserted where it is new."""
    text = json.dumps(fingerprint, sort_keys=True, separators=(",", ":"), allow_nan=False)  # as oracles.fingerprint
    digest = hashlib.sha256(text.encode()).hexdigest()
    connection.execute(
        insert_new(connection, schema.oracle).values(fingerprint_hash=digest, fingerprint=json.loads(text))
    )
    return oracle_id(connection, digest)


def oracle_id(connection: Connection, fingerprint_hash: str) -> int:
    """Row id of an oracle. Raises RecordError for a fingerprint that was never registered."""
    o = schema.oracle.c
    found: int | None = connection.scalars(select(o.id).where(o.fingerprint_hash == fingerprint_hash)).one_or_none()
    if found is None:
        raise RecordError(
            f"the oracle fingerprint {fingerprint_hash[:12]} is not in the record; register it with set_oracle first"
        )
    return found


def store_calculations(connection: Connection, oracle: int, cells: Sequence[Atoms]) -> list[tuple[int, str]]:
    """(row id, key) of the calculation of each cell by the oracle with that row id; what is new is inserted."""
    c = schema.calculation.c
    digest = connection.scalars(select(schema.oracle.c.fingerprint_hash).where(schema.oracle.c.id == oracle)).one()
    if connection.dialect.name == "postgresql":
        # rows go in as they were proposed; without the lock two writers might wait for each other in a ring
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    keys = [structure_key(atoms) for atoms in cells]
    structures = _store_structures(connection, dict(zip(keys, cells, strict=True)))
    names = {key: calculation_key(key, digest) for key in keys}
    rows = [{"key": name, "structure_id": structures[key], "oracle_id": oracle} for key, name in names.items()]
    if rows:
        connection.execute(insert_new(connection, schema.calculation), rows)
    ids: dict[str, int] = {}
    for block in blocks([str(r["key"]) for r in rows]):
        ids.update((k, i) for k, i in connection.execute(select(c.key, c.id).where(c.key.in_(block))))
    return [(ids[names[key]], names[key]) for key in keys]


def _store_structures(connection: Connection, cells: Mapping[str, Atoms]) -> dict[str, int]:
    s = schema.structure.c
    known: dict[str, int] = {}
    for block in blocks(sorted(cells)):
        known.update((k, i) for k, i in connection.execute(select(s.key, s.id).where(s.key.in_(block))))
    new = sorted(set(cells) - set(known))
    if new:
        ids = store_blobs(connection, [stored_bytes(cells[key]) for key in new])
        rows = [
            {
                "key": key,
                "natoms": len(cells[key]),
                "formula": formula(cells[key]),
                "blob_id": blob,
            }
            for key, blob in zip(new, ids, strict=True)
        ]
        # another writer may have been first with the same structure; then our blob is an orphan of a few kB
        connection.execute(insert_new(connection, schema.structure), rows)
        for block in blocks(new):
            known.update((k, i) for k, i in connection.execute(select(s.key, s.id).where(s.key.in_(block))))
    return known


def calculation_ids(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    """Row ids of calculations by key. Raises RecordError for one that is not in the record."""
    c = schema.calculation.c
    found: dict[str, int] = {}
    for block in blocks(sorted(set(keys))):
        found.update((k, i) for k, i in connection.execute(select(c.key, c.id).where(c.key.in_(block))))
    for key in keys:
        if key not in found:
            raise RecordError(f"calculation {key[:12]} is not in the record; store its decision first")
    return found
