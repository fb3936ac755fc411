"""Many labelled structures at once: imports, in blocks of one transaction each.

Row ids are taken ahead, so that every table is written by one plain executemany. What is in the database already is
left as it is and compared: the same frames again change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from sqlalchemy import Connection, Table, func, select

from farfield.db import schema
from farfield.db.blobs import blob_row, blocks
from farfield.db.clock import now
from farfield.db.engine import Database
from farfield.db.identity import calculation_key, formula, key_and_bytes
from farfield.db.labels import Array, difference, result_bytes, scalar
from farfield.db.rows import insert_rows
from farfield.errors import RecordError
from farfield.oracles.observation import KINDS, Observations

__all__ = ["Frame", "Stored", "store_labelled"]

BLOCK = 1000
"""Frames of a transaction."""
ATTEMPT = (
    *("id", "calculation_id", "number", "kinds", "state", "message", "cancel", "created", "ended", "blob_id"),
    "source_id",
)
OBSERVATION = ("calculation_id", "kind", "detail", "attempt_id", "value", "blob_id", "accepted")


@dataclass(frozen=True)
class Frame:
    """A structure with labels: energy eV, forces (N, 3) eV/Å, virial (6,) eV in Voigt order; None where there is none.
    `name` says where it came from, for errors and provenance."""

    atoms: Atoms
    energy: float | None = None
    forces: Array | None = None
    virial: Array | None = None
    name: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """The labels that are there, by kind."""
        found = {"E": self.energy, "F": self.forces, "V": self.virial}
        return {kind: value for kind, value in found.items() if value is not None}


@dataclass
class Stored:
    """What became of the frames: stored, known already in all their labels, twice in the same import; the largest
    difference to a label that was there before, by kind, and the name of its frame."""

    new: int = 0
    known: int = 0
    repeated: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    furthest: dict[str, str] = field(default_factory=dict)


def store_labelled(database: Database, source: int, frames: Iterable[Frame]) -> Iterator[Stored]:
    """Store `frames` as labels of the import with the row id `source`; yields the totals after every block.

    Raises RecordError for a frame without labels, or with one of a wrong shape or not finite; blocks before it stay.
    """
    total = Stored()
    r, k = schema.source.c, schema.oracle.c
    with database.read() as connection:
        oracle, fingerprint = connection.execute(
            select(r.oracle_id, k.fingerprint_hash).join(schema.oracle, k.id == r.oracle_id).where(r.id == source)
        ).one()
    for block in _blocks(frames):
        ready = [_prepared(frame) for frame in block]
        with database.write(relaxed=True) as connection:
            _store(connection, source, oracle, fingerprint, ready, total)
        yield total


@dataclass(frozen=True)
class _Ready:
    frame: Frame
    key: str
    structure: bytes
    result: bytes
    values: dict[str, Array]


def _prepared(frame: Frame) -> _Ready:
    values: dict[str, Any] = {k: np.asarray(v, dtype="<f8") for k, v in frame.values.items()}
    if not values:
        raise RecordError(f"{frame.name or 'a frame'} has no energy, forces or virial; leave it out")
    try:
        result = result_bytes(Observations(values), tuple(values), len(frame.atoms))
        return _Ready(frame, *key_and_bytes(frame.atoms), result, values)
    except RecordError as fault:
        raise RecordError(f"{frame.name or 'a frame'}: {fault}") from fault


def _blocks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    block: list[Frame] = []
    for frame in frames:
        block.append(frame)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _store(
    connection: Connection, source: int, oracle: int, fingerprint: str, ready: Sequence[_Ready], total: Stored
) -> None:
    if connection.dialect.name == "postgresql":
        # others who store structures wait for this block instead of colliding with it
        connection.exec_driver_sql("LOCK TABLE structure, calculation IN SHARE ROW EXCLUSIVE MODE")
    cells = {r.key: r for r in ready}
    total.repeated += len(ready) - len(cells)
    structures = _known(connection, schema.structure, list(cells))
    fresh = [key for key in cells if key not in structures]
    blobs = _ids(connection, schema.blob, len(fresh))
    _insert_blobs(connection, blobs, [cells[key].structure for key in fresh])
    ids = _ids(connection, schema.structure, len(fresh))
    rows = []
    for row, blob, key in zip(ids, blobs, fresh, strict=True):
        atoms = cells[key].frame.atoms
        rows.append((row, key, len(atoms), formula(atoms), blob))
        structures[key] = row
    insert_rows(connection, schema.structure, ("id", "key", "natoms", "formula", "blob_id"), rows)
    names = {key: calculation_key(key, fingerprint) for key in cells}
    calculations = _known(connection, schema.calculation, list(names.values()))
    new = [key for key in cells if names[key] not in calculations]
    ids = _ids(connection, schema.calculation, len(new))
    named = [(row, names[key], structures[key], oracle) for row, key in zip(ids, new, strict=True)]
    insert_rows(connection, schema.calculation, ("id", "key", "structure_id", "oracle_id"), named)
    untouched = {row: key for row, key in zip(ids, new, strict=True)}
    old = {calculations[names[key]]: key for key in cells if names[key] in calculations}
    wanted = [(row, cells[key], tuple(cells[key].values), 1) for row, key in untouched.items()]
    wanted += _missing(connection, {row: cells[key] for row, key in old.items()}, total)
    _attempts(connection, source, wanted)
    total.new += len(wanted)


Wanted = tuple[int, _Ready, tuple[str, ...], int]
"""A calculation's row, what was brought for it, the kinds that are taken, the attempt's number."""


def _missing(connection: Connection, cells: dict[int, _Ready], total: Stored) -> list[Wanted]:
    """Of calculations that were there: which kinds are new; the others are compared."""
    o, a = schema.observation.c, schema.attempt.c
    there: dict[int, set[str]] = {}
    numbers: dict[int, int] = {}
    for block in blocks(sorted(cells)):
        for row, kind in connection.execute(
            select(o.calculation_id, o.kind).where(o.calculation_id.in_(block), o.detail == "")
        ):
            there.setdefault(row, set()).add(kind)
        numbers.update(
            (row, last)
            for row, last in connection.execute(
                select(a.calculation_id, func.max(a.number))
                .where(a.calculation_id.in_(block))
                .group_by(a.calculation_id)
            )
        )
    out = []
    for row, ready in cells.items():
        kinds = tuple(k for k in KINDS if k in ready.values and k not in there.get(row, ()))
        for kind, off in difference(connection, row, ready.values).items():
            if off > total.differences.get(kind, -1.0):
                total.differences[kind], total.furthest[kind] = off, ready.frame.name
        if kinds:
            out.append((row, ready, kinds, numbers.get(row, 0) + 1))
        else:
            total.known += 1
    return out


def _attempts(connection: Connection, source: int, wanted: Sequence[Wanted]) -> None:
    moment = connection.scalars(select(now())).one()
    blobs = _ids(connection, schema.blob, len(wanted))
    ids = _ids(connection, schema.attempt, len(wanted))
    _insert_blobs(connection, blobs, [w[1].result for w in wanted])
    attempts, labels = [], []
    for attempt, blob, (row, ready, kinds, number) in zip(ids, blobs, wanted, strict=True):
        brought = ",".join(k for k in KINDS if k in ready.values)
        name = ready.frame.name or None
        attempts.append((attempt, row, number, brought, "finished", name, False, moment, moment, blob, source))
        labels += [(row, k, "", attempt, scalar(k, ready.values[k]), blob, moment) for k in kinds]
    insert_rows(connection, schema.attempt, ATTEMPT, attempts)
    insert_rows(connection, schema.observation, OBSERVATION, labels, new=True)


def _known(connection: Connection, table: Table, keys: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for block in blocks(keys):
        found.update(
            (key, row) for key, row in connection.execute(select(table.c.key, table.c.id).where(table.c.key.in_(block)))
        )
    return found


def _ids(connection: Connection, table: Table, count: int) -> list[int]:
    """Row ids that nobody else will take."""
    if not count:
        return []
    if connection.dialect.name == "postgresql":
        sequence = func.pg_get_serial_sequence(table.name, "id")
        return list(connection.scalars(select(func.nextval(sequence)).select_from(func.generate_series(1, count))))
    last = connection.scalar(select(func.max(table.c.id))) or 0  # ours until we commit: the transaction is IMMEDIATE
    return list(range(last + 1, last + 1 + count))


def _insert_blobs(connection: Connection, ids: Sequence[int], data: Sequence[bytes]) -> None:
    rows = [blob_row(d) for d in data]
    insert_rows(
        connection,
        schema.blob,
        ("id", "data", "digest"),
        [(i, r["data"], r["digest"]) for i, r in zip(ids, rows, strict=True)],
    )
