"""Rows by the driver's own executemany, statements whose text is made once, and row ids taken ahead."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, func, select
from sqlalchemy.exc import IntegrityError

from farfield.db import schema
from farfield.db.rows import Prepared, RowIds, insert_rows

STRUCTURE = ("id", "key", "natoms", "formula", "blob_id")
BLOB = ("id", "data", "digest")


def rows(first: int, count: int) -> list[tuple]:
    return [
        (i, f"{i:064x}", i, "'; DROP TABLE blob; -- \N{GREEK SMALL LETTER ETA}%s?", i)
        for i in range(first, first + count)
    ]


def filled(database, count: int) -> None:
    with database.write() as connection:
        insert_rows(
            connection, schema.blob, BLOB, [(i, bytes([i % 256, 0, 255]), b"d" * 32) for i in range(1, count + 1)]
        )
        insert_rows(connection, schema.structure, STRUCTURE, rows(1, count))


@pytest.mark.parametrize("count", [1, 2, 1500])
def test_rows_come_back(database, count: int) -> None:
    filled(database, count)
    with database.read() as connection:
        back = [tuple(row) for row in connection.execute(select(schema.structure).order_by(schema.structure.c.id))]
        data = list(connection.scalars(select(schema.blob.c.data).order_by(schema.blob.c.id)))
    assert back == rows(1, count)
    assert [bytes(d) for d in data] == [bytes([i % 256, 0, 255]) for i in range(1, count + 1)]


def test_nothing_is_a_statement_less(database) -> None:
    with database.write() as connection:
        insert_rows(connection, schema.structure, STRUCTURE, [])


def test_what_a_constraint_refuses_is_an_error_unless_it_may_be_there(database) -> None:
    filled(database, 3)
    with pytest.raises(IntegrityError), database.write() as connection:
        insert_rows(connection, schema.structure, STRUCTURE, [(9, f"{1:064x}", 1, "Cu", 1)])
    with pytest.raises(IntegrityError), database.write() as connection:
        insert_rows(connection, schema.structure, STRUCTURE, [(9, "new", 1, "Cu", 999)])  # no such blob
    with database.write() as connection:
        insert_rows(connection, schema.structure, STRUCTURE, [(9, f"{1:064x}", 7, "Cu", 1), *rows(4, 0)], new=True)
        first = select(schema.structure.c.natoms).where(schema.structure.c.key == f"{1:064x}")
        assert connection.scalars(first).all() == [1]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (schema.structure, ("key", "id", "natoms", "formula", "blob_id")),  # out of order
        (
            schema.observation,
            ("calculation_id", "kind", "attempt_id", "value", "blob_id", "accepted"),
        ),  # detail has one
        (schema.attempt, ("calculation_id", "number", "kinds", "state", "created", "source_id")),  # so has cancel
    ],
)
def test_columns_that_tuples_would_not_fit_are_refused(database, table, columns: tuple[str, ...]) -> None:
    with database.write() as connection, pytest.raises(ValueError, match="columns of"):
        insert_rows(connection, table, columns, [tuple(range(len(columns)))])


def test_a_prepared_statement_says_what_the_construct_says(database) -> None:
    filled(database, 20)
    s = schema.structure.c
    statement = select(s.id, s.key).where(s.natoms < bindparam("most"), s.key != bindparam("not")).order_by(s.id)
    prepared = Prepared(statement)
    for most, key in ((5, "x"), (8, f"{3:064x}"), (0, "'; DROP TABLE structure; --")):
        with database.read() as connection:
            plain = [tuple(r) for r in connection.execute(statement, {"most": most, "not": key})]
            assert [tuple(r) for r in prepared(connection, most=most, **{"not": key})] == plain
    with database.read() as connection, pytest.raises(KeyError, match="most"):
        prepared(connection, **{"not": "x"})


def test_ids_are_new_and_given_once(database) -> None:
    tables = (schema.blob, schema.structure)
    with database.write() as connection:
        ids = RowIds(connection, tables)
        taken = [*ids.take(schema.blob, 3), *ids.take(schema.blob, 0), *ids.take(schema.blob, 2)]
        insert_rows(connection, schema.blob, BLOB, [(i, b"x", b"d" * 32) for i in taken])
        own = ids.take(schema.structure, 1)
    assert len(set(taken)) == 5
    assert len(own) == 1
    with database.write() as connection:
        later = RowIds(connection, tables).take(schema.blob, 4)
        assert not set(later) & set(taken)
        plain = connection.scalar(schema.blob.insert().values(data=b"y", digest=b"d" * 32).returning(schema.blob.c.id))
        assert plain not in {*taken, *(later if database.dialect == "postgresql" else ())}


def test_ids_of_two_writers_differ(database) -> None:
    """On PostgreSQL two take at once; on SQLite the second waits until the first has committed."""
    if database.dialect == "sqlite":
        with database.write() as first:
            ids = RowIds(first, (schema.blob,)).take(schema.blob, 2)
            insert_rows(first, schema.blob, BLOB, [(i, b"x", b"d" * 32) for i in ids])
        with database.write() as second:
            assert not set(RowIds(second, (schema.blob,)).take(schema.blob, 2)) & set(ids)
        return
    with database.write() as first, database.write() as second:
        mine, theirs = (RowIds(c, (schema.blob,)).take(schema.blob, 50) for c in (first, second))
        for connection, ids in ((first, mine), (second, theirs)):
            insert_rows(connection, schema.blob, BLOB, [(i, b"x", b"d" * 32) for i in ids])
    assert not set(mine) & set(theirs)
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.blob)) == 100
