"""Whether every row is what it says: hashes, values, references, and what nobody refers to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, func, select, union_all

from farfield.db import schema
from farfield.db.datasets import datasets, verify
from farfield.db.engine import Database
from farfield.db.identity import calculation_key, formula, structure_atoms, structure_key
from farfield.db.labels import result_values, scalar
from farfield.errors import RecordError
from farfield.oracles.packing import unpack

__all__ = ["Check", "check"]

PAGE = 200
MOST = 1000
"""Faults that are spelled out; the rest are counted."""
MEND = "restore it from a backup or a copy"


@dataclass
class Check:
    """What was found: rows looked at by table, faults (a line each, at most a thousand), how many there are, and blobs
    that nobody refers to, which are no fault."""

    rows: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    count: int = 0
    orphans: int = 0
    orphan_bytes: int = 0

    def fault(self, text: str) -> None:
        """Note a fault."""
        self.count += 1
        if len(self.faults) < MOST:
            self.faults.append(text)


def check(database: Database, progress: Callable[[str, int], None] | None = None) -> Check:
    """Look at every row of `database`, in short transactions and flat memory. `progress`: (table, rows so far)."""
    found = Check()
    heard = progress or (lambda table, rows: None)
    _file(database, found)
    for name, look in (
        ("blob", _blobs), ("oracle", _oracles), ("structure", _structures), ("calculation", _calculations),
        ("observation", _observations), ("attempt", _attempts),
    ):  # fmt: skip
        seen = 0
        for rows in _pages(database, look.__name__):
            for row in rows:
                look(row, found)
            seen += len(rows)
            heard(name, seen)
        found.rows[name] = seen
    _references(database, found)
    _orphans(database, found)
    for frozen in datasets(database):
        try:
            for fault in verify(database, frozen.name):
                found.fault(f"dataset {frozen.name}: {fault}; {MEND}")
        except RecordError as fault:
            found.fault(f"dataset {frozen.name}: {fault}")
        found.rows["dataset"] = found.rows.get("dataset", 0) + 1
    return found


def _file(database: Database, found: Check) -> None:
    if database.dialect != "sqlite":
        return
    with database.read() as connection:
        for (text,) in connection.exec_driver_sql("PRAGMA integrity_check(20)"):
            if text != "ok":
                found.fault(f"file: {text}; {MEND}")
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            found.fault(f"{table} {row}: the {parent} it refers to is not there; {MEND}")


b, s, c, k, o, a = (
    t.c for t in (schema.blob, schema.structure, schema.calculation, schema.oracle, schema.observation, schema.attempt)
)

QUERIES: dict[str, tuple[Any, Select[Any]]] = {
    "_blobs": (b.id, select(b.id, b.digest, b.data)),
    "_oracles": (k.id, select(k.id, k.fingerprint, k.fingerprint_hash)),
    "_structures": (
        s.id,
        select(s.id, s.key, s.natoms, s.formula, b.data).join(schema.blob, b.id == s.blob_id),
    ),
    "_calculations": (
        c.id,
        select(c.id, c.key, s.key.label("structure"), k.fingerprint_hash)
        .join(schema.structure, s.id == c.structure_id)
        .join(schema.oracle, k.id == c.oracle_id),
    ),
    "_observations": (
        o.id,
        select(o.id, o.kind, o.value, o.energy_zero, o.detail, b.data, s.natoms, a.kinds, a.state)
        .add_columns(a.calculation_id, o.calculation_id.label("own"))
        .join(schema.blob, b.id == o.blob_id)
        .join(schema.calculation, c.id == o.calculation_id)
        .join(schema.structure, s.id == c.structure_id)
        .outerjoin(schema.attempt, a.id == o.attempt_id),
    ),
    "_attempts": (
        a.id,
        select(a.id, a.state, a.blob_id, select(func.count(o.id)).where(o.attempt_id == a.id).scalar_subquery()),
    ),
}


def _pages(database: Database, name: str) -> Iterator[list[Any]]:
    key, query = QUERIES[name]
    last = 0
    while True:
        with database.read() as connection:
            rows = list(connection.execute(query.where(key > last).order_by(key).limit(PAGE)).all())
        if rows:
            yield rows
        if len(rows) < PAGE:
            return
        last = rows[-1].id


def _blobs(row: Any, found: Check) -> None:
    if hashlib.sha256(bytes(row.data)).digest() != bytes(row.digest):
        found.fault(f"blob {row.id}: its bytes are not those that were written; {MEND}")


def _oracles(row: Any, found: Check) -> None:
    text = json.dumps(row.fingerprint, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(text.encode()).hexdigest() != row.fingerprint_hash:
        found.fault(f"oracle {row.id}: its fingerprint does not have its hash; {MEND}")


def _structures(row: Any, found: Check) -> None:
    try:
        atoms = structure_atoms(bytes(row.data))
        if structure_key(atoms) != row.key:
            found.fault(f"structure {row.id}: its bytes do not have its key; {MEND}")
        elif (len(atoms), formula(atoms)) != (row.natoms, row.formula):
            found.fault(f"structure {row.id}: it is {formula(atoms)}, not {row.formula} of {row.natoms} atoms; {MEND}")
    except RecordError as fault:
        found.fault(f"structure {row.id}: {fault}")


def _calculations(row: Any, found: Check) -> None:
    if calculation_key(row.structure, row.fingerprint_hash) != row.key:
        found.fault(f"calculation {row.id}: its key is not that of its structure and oracle; {MEND}")


def _observations(row: Any, found: Check) -> None:
    try:
        if row.kind == "FC":
            column = unpack(bytes(row.data))[1]["column"]
            value = float(np.abs(column).max())
        else:
            if row.state != "finished" or row.kind not in row.kinds.split(",") or row.calculation_id != row.own:
                found.fault(f"observation {row.id}: the attempt it names did not bring it; {MEND}")
            arrays, zero = result_values(bytes(row.data))
            value = scalar(row.kind, arrays[row.kind])
            if row.kind == "E" and zero != row.energy_zero:
                found.fault(f"observation {row.id}: its energy at zero smearing is not that of its blob; {MEND}")
    except (RecordError, ValueError, KeyError, IndexError) as fault:
        found.fault(f"observation {row.id}: its {row.kind} cannot be read ({fault}); {MEND}")
        return
    if abs(value - row.value) > 1e-12 * max(1.0, abs(value)):
        found.fault(f"observation {row.id}: its {row.kind} is {value!r} in the blob and {row.value!r} here; {MEND}")


def _attempts(row: Any, found: Check) -> None:
    *_, labels = row
    if (row.state == "finished") != (labels > 0):
        found.fault(f"attempt {row.id}: it is {row.state} with {labels} accepted labels; {MEND}")
    if row.state in ("finished", "superseded") and row.blob_id is None:
        found.fault(f"attempt {row.id}: it is {row.state} without an answer; {MEND}")


def _references(database: Database, found: Check) -> None:
    """Rows whose parent is gone; SQLite has told already."""
    if database.dialect == "sqlite":
        return
    with database.read() as connection:
        for table in schema.metadata.sorted_tables:
            for link in table.foreign_keys:
                parent = link.column.table.alias()
                missing = connection.scalar(
                    select(func.count())
                    .select_from(table.outerjoin(parent, parent.c[link.column.name] == link.parent))
                    .where(link.parent.is_not(None), parent.c[link.column.name].is_(None))
                )
                if missing:
                    found.fault(
                        f"{table.name}: {missing} rows refer to a {link.column.table.name} that is not there; {MEND}"
                    )


def _orphans(database: Database, found: Check) -> None:
    used = union_all(
        *(
            select(column)
            for table in schema.metadata.sorted_tables
            for column in table.c
            if any(link.column.table is schema.blob for link in column.foreign_keys)
        )
    )
    with database.read() as connection:
        found.orphans, found.orphan_bytes = _count(connection, used)


def _count(connection: Connection, used: Any) -> tuple[int, int]:
    held = used.subquery()
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(func.length(b.data)), 0)).where(
            b.id.not_in(select(held.c[0]).where(held.c[0].is_not(None)))
        )
    ).one()
    return int(row[0]), int(row[1])
