"""The floor of an insertion: the same rows by the driver's own executemany, into the same tables and indexes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from sqlalchemy import Table, make_url, select

from farfield.db import schema
from farfield.db.engine import CHECKPOINT_PAGES, Database

BLOCK = 1000
ORDER = (
    (schema.blob, 2),
    (schema.structure, 1),
    (schema.calculation, 1),
    (schema.attempt, 1),
    (schema.observation, 3),
)
"""Tables of a frame, and how many rows it has in each."""
FIRST = (schema.oracle, schema.source)


def rows_of(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables that an insertion fills, as the driver gives them."""
    out: dict[str, list[tuple[Any, ...]]] = {}
    with database.read() as connection:
        for table in (*FIRST, *(t for t, _ in ORDER)):
            words = str(select(table).order_by(table.c.id).compile(dialect=connection.dialect))
            out[table.name] = [tuple(row) for row in connection.exec_driver_sql(words)]
    return out


def blocks(
    rows: dict[str, list[tuple[Any, ...]]], size: int = BLOCK
) -> Iterator[list[tuple[Table, Sequence[tuple[Any, ...]]]]]:
    """The rows in transactions of `size` frames."""
    count = len(rows["attempt"])
    for start in range(0, count, size):
        end = min(start + size, count)
        yield [(table, rows[table.name][each * start : each * end]) for table, each in ORDER]


def raw_sqlite(
    path: str, rows: dict[str, list[tuple[Any, ...]]], clock: Callable[[], float], size: int = BLOCK
) -> float:
    """Seconds to insert `rows` into the empty database at `path` (WAL, synchronous NORMAL, checkpoints as ours), in
    transactions of `size` frames."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    for table in FIRST:
        connection.executemany(_words(table, "?"), rows[table.name])
    before = clock()
    for block in blocks(rows, size):
        connection.execute("BEGIN IMMEDIATE")
        for table, some in block:
            connection.executemany(_words(table, "?"), some)
        connection.execute("COMMIT")
    seconds = clock() - before
    connection.close()
    return seconds


def raw_postgresql(url: str, rows: dict[str, list[tuple[Any, ...]]], clock: Callable[[], float]) -> float:
    """The same with psycopg's executemany."""
    parts = make_url(url)
    with psycopg.connect(
        host=parts.query.get("host") or parts.host,
        port=parts.port,
        user=parts.username,
        dbname=parts.database,
        options="-c synchronous_commit=off",
    ) as connection:
        cursor = connection.cursor()
        for table in FIRST:
            cursor.executemany(_words(table, "%s"), rows[table.name])
        connection.commit()
        before = clock()
        for block in blocks(rows):
            for table, some in block:
                cursor.executemany(_words(table, "%s"), some)
            connection.commit()
        return clock() - before


def _words(table: Table, mark: str) -> str:
    marks = ", ".join([mark] * len(table.columns))
    return f"INSERT INTO {table.name} VALUES ({marks})"  # noqa: S608  our own names
