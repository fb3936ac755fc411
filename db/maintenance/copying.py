"""Copy a database to another place or back end, row by row and bit for bit.

Tables go in the order of their references, in pages of one transaction each, ids kept. The revision is written last, so
that an unfinished copy is no database yet; the copy goes on where it was interrupted, and is compared at the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, func, insert, select, tuple_
from sqlalchemy.exc import DBAPIError

from farfield.db import schema
from farfield.db.engine import VERSIONS, Database, empty_database, parse_url, revision_of
from farfield.errors import RecordError

__all__ = ["Copied", "copy", "table_hash"]

PAGE, BLOBS = 1000, 100
"""Rows of a transaction; fewer blobs."""


@dataclass(frozen=True)
class Copied:
    """Rows and hash of each table, equal in both databases; `resumed`: rows that an earlier copy had brought."""

    rows: dict[str, int]
    hashes: dict[str, str]
    resumed: int


def copy(origin: Database, url: str, progress: Callable[[str, int], None] | None = None) -> Copied:
    """Copy `origin` to the new or unfinished database at `url`. `progress`: (table, rows so far).

    Raises RecordError where `url` holds a whole database already, an unfinished copy of another one, or a copy that
    does not equal its origin, and for a campaign that is running.
    """
    _refuse_running(origin)
    engine = empty_database(parse_url(url))
    heard = progress or (lambda table, rows: None)
    try:
        with engine.connect() as connection:
            if revision_of(connection) not in (None, "none"):
                raise RecordError(f"{_shown(engine)} holds a database already; copy to another place")
        schema.metadata.create_all(engine)
        resumed = 0
        for table in schema.metadata.sorted_tables:
            resumed += _table(origin, engine, table, heard)
        rows, hashes = {}, {}
        for table in schema.metadata.sorted_tables:
            with origin.read() as theirs, engine.connect() as ours:
                first, second = table_hash(theirs, table), table_hash(ours, table)
            if first != second:
                raise RecordError(
                    f"the copy of {table.name} at {_shown(engine)} differs from its origin; was either written to? "
                    "Remove the copy and say the same again"
                )
            rows[table.name], hashes[table.name] = first
            heard(f"{table.name}, compared", first[0])
        with engine.begin() as connection:
            _set_sequences(connection)
            VERSIONS_TABLE.create(connection, checkfirst=True)
            connection.execute(insert(VERSIONS).values(version_num=schema.REVISION))
        return Copied(rows, hashes, resumed)
    except DBAPIError as fault:
        why = " ".join(str(fault.orig).split())
        raise RecordError(f"the copy to {_shown(engine)} failed ({why}); say the same again to go on") from fault
    finally:
        engine.dispose()


VERSIONS_TABLE = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), primary_key=True),
)


def table_hash(connection: Connection, table: Table) -> tuple[int, str]:
    """Number of rows, and a hash over all of them in the order of their keys."""
    hashed, count = hashlib.sha256(), 0
    for rows in _pages(lambda query: connection.execute(query).all(), table, None):
        for row in rows:
            hashed.update(_bytes(row))
        count += len(rows)
    return count, hashed.hexdigest()


def _table(origin: Database, engine: Engine, table: Table, heard: Callable[[str, int], None]) -> int:
    """Copy what is missing of a table; how many rows were there."""
    keys = list(table.primary_key.columns)
    with engine.connect() as connection:
        there = connection.scalar(select(func.count()).select_from(table)) or 0
        last = connection.execute(select(*keys).order_by(*(k.desc() for k in keys)).limit(1)).one_or_none()
        if last is not None:
            _refuse_foreign(origin, connection, engine, table, tuple(last))

    def read(query: Any) -> Any:
        with origin.read() as connection:
            return connection.execute(query).all()

    done = there
    for rows in _pages(read, table, None if last is None else tuple(last)):
        with engine.begin() as connection:
            connection.execute(insert(table), [dict(row._mapping) for row in rows])
        done += len(rows)
        heard(table.name, done)
    return there


def _refuse_foreign(origin: Database, connection: Connection, engine: Engine, table: Table, last: Any) -> None:
    """The last row of an unfinished copy must be the origin's."""
    where = [k == v for k, v in zip(table.primary_key.columns, last, strict=True)]
    ours = connection.execute(select(table).where(*where)).one()
    with origin.read() as theirs:
        same = theirs.execute(select(table).where(*where)).one_or_none()
    if same is None or _bytes(same) != _bytes(ours):
        raise RecordError(f"{_shown(engine)} holds an unfinished copy of another database; copy to another place")


def _pages(read: Callable[[Any], Any], table: Table, after: Any) -> Iterator[Any]:
    keys = list(table.primary_key.columns)
    size = BLOBS if table is schema.blob else PAGE
    while True:
        query = select(table).order_by(*keys).limit(size)
        if after is not None:
            query = query.where(keys[0] > after[0] if len(keys) == 1 else tuple_(*keys) > tuple_(*after))
        rows = read(query)
        if rows:
            yield rows
        if len(rows) < size:
            return
        after = tuple(getattr(rows[-1], k.name) for k in keys)


def _bytes(row: Any) -> bytes:
    """A row as bytes, the same from every back end."""
    parts = []
    for value in row:
        if isinstance(value, memoryview | bytes):
            value = hashlib.sha256(bytes(value)).hexdigest()
        elif isinstance(value, float):
            value = value.hex()
        parts.append(value)
    return json.dumps(parts, default=str).encode() + b"\n"


def _set_sequences(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    for table in schema.metadata.sorted_tables:
        if [key.name for key in table.primary_key.columns] == ["id"]:
            last = connection.scalar(select(func.max(table.c.id)))
            if last is not None:
                connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), last)))


def _refuse_running(origin: Database) -> None:
    from farfield.db.record import Record

    record = Record(origin)
    for name in record.campaigns():
        found = record.campaign(name)
        if found is not None and found.holder is not None:
            raise RecordError(f"campaign {name} is run by {found.holder}; stop it first (farfield stop)")


def _shown(engine: Engine) -> str:
    if engine.dialect.name == "sqlite":
        return Path(str(engine.url.database)).name
    return engine.url.render_as_string(hide_password=True)
