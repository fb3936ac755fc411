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
from sqlalchemy import Connection, bindparam, func, select

from farfield.db import schema
from farfield.db.blobs import BLOCK as SEVERAL
from farfield.db.blobs import blob_row, blocks
from farfield.db.clock import now
from farfield.db.engine import Database
from farfield.db.identity import calculation_key, formula, key_and_bytes
from farfield.db.labels import Array, difference, result_bytes, scalar
from farfield.db.rows import Prepared, RowIds, insert_rows
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
    for block in _blocks(frames):
        ready = [_prepared(frame) for frame in block]
        with database.write(relaxed=True) as connection:
            _store(connection, source, ready, total)
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


def _store(connection: Connection, source: int, ready: Sequence[_Ready], total: Stored) -> None:
    if connection.dialect.name == "postgresql":
        # others who store structures wait for this block instead of colliding with it
        connection.exec_driver_sql("LOCK TABLE structure, calculation IN SHARE ROW EXCLUSIVE MODE")
    ((oracle, fingerprint, moment),) = _ORIGIN(connection, source=source)
    ids = RowIds(connection, (schema.blob, schema.structure, schema.calculation, schema.attempt))
    cells = {r.key: r for r in ready}
    total.repeated += len(ready) - len(cells)
    known = _known(connection, oracle, list(cells))
    structures = {key: row for key, (row, _) in known.items()}
    calculations = {key: row for key, (_, row) in known.items() if row is not None}
    fresh = [key for key in cells if key not in structures]
    blobs = ids.take(schema.blob, len(fresh))
    written = [(blob, cells[key].structure) for blob, key in zip(blobs, fresh, strict=True)]
    rows = []
    for row, blob, key in zip(ids.take(schema.structure, len(fresh)), blobs, fresh, strict=True):
        atoms = cells[key].frame.atoms
        rows.append((row, key, len(atoms), formula(atoms), blob))
        structures[key] = row
    new = [key for key in cells if key not in calculations]
    untouched = dict(zip(ids.take(schema.calculation, len(new)), new, strict=True))
    named = [(row, calculation_key(key, fingerprint), structures[key], oracle) for row, key in untouched.items()]
    wanted = [(row, cells[key], tuple(cells[key].values), 1) for row, key in untouched.items()]
    wanted += _missing(connection, {row: cells[key] for key, row in calculations.items()}, total)
    results = ids.take(schema.blob, len(wanted))
    written += [(blob, w[1].result) for blob, w in zip(results, wanted, strict=True)]
    _insert_blobs(connection, written)
    insert_rows(connection, schema.structure, ("id", "key", "natoms", "formula", "blob_id"), rows)
    insert_rows(connection, schema.calculation, ("id", "key", "structure_id", "oracle_id"), named)
    attempts = zip(ids.take(schema.attempt, len(wanted)), results, wanted, strict=True)
    _insert_attempts(connection, source, moment, list(attempts))
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


def _insert_attempts(
    connection: Connection, source: int, moment: float, wanted: Sequence[tuple[int, int, Wanted]]
) -> None:
    """Attempts that are finished, each with its row id and its blob's, and their labels."""
    attempts, labels = [], []
    for attempt, blob, (row, ready, kinds, number) in wanted:
        brought = ",".join(k for k in KINDS if k in ready.values)
        name = ready.frame.name or None
        attempts.append((attempt, row, number, brought, "finished", name, False, moment, moment, blob, source))
        labels += [(row, k, "", attempt, scalar(k, ready.values[k]), blob, moment) for k in kinds]
    insert_rows(connection, schema.attempt, ATTEMPT, attempts)
    insert_rows(connection, schema.observation, OBSERVATION, labels, new=True)


def _known(connection: Connection, oracle: int, keys: Sequence[str]) -> dict[str, tuple[int, int | None]]:
    """Of the structures that are there: the row ids of each and of its calculation by the oracle."""
    found: dict[str, tuple[int, int | None]] = {}
    for block in blocks(keys):
        names = [*block, *[block[-1]] * (SEVERAL - len(block))] if len(block) > 1 else block
        places = {f"key{i}": key for i, key in enumerate(names)}
        for key, structure, calculation in _KNOWN[len(names)](connection, oracle=oracle, **places):
            found[key] = structure, calculation
    return found


def _insert_blobs(connection: Connection, written: Sequence[tuple[int, bytes]]) -> None:
    rows = [(i, blob_row(data)) for i, data in written]
    insert_rows(connection, schema.blob, ("id", "data", "digest"), [(i, r["data"], r["digest"]) for i, r in rows])


def _origin() -> Prepared:
    r, k = schema.source.c, schema.oracle.c
    joined = select(r.oracle_id, k.fingerprint_hash, now()).join(schema.oracle, k.id == r.oracle_id)
    return Prepared(joined.where(r.id == bindparam("source")))


def _of_keys(count: int) -> Prepared:
    s, c = schema.structure.c, schema.calculation.c
    mine = (c.structure_id == s.id) & (c.oracle_id == bindparam("oracle"))
    both = select(s.key, s.id, c.id).outerjoin_from(schema.structure, schema.calculation, mine)
    return Prepared(both.where(s.key.in_([bindparam(f"key{i}") for i in range(count)])))


_ORIGIN = _origin()
_KNOWN = {1: _of_keys(1), SEVERAL: _of_keys(SEVERAL)}
"""Structures by their keys: one, or several, where a key may stand there more than once."""
