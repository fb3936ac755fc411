"""Many rows in one statement: tuples go straight to the driver, and a statement's text is made once.

That is half the time of a bulk insertion, and most of it where each row has a transaction of its own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from farfield.db import schema

__all__ = ["Prepared", "RowIds", "among", "insert_or_skip", "insert_rows", "one_of"]


def insert_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, new: bool = False
) -> None:
    """Insert `rows` of plain values, by `columns` in the table's order; `new`: skip what a unique constraint refuses.

    No type converts a value. Raises ValueError where columns are out of order, or one that has a default is not named.
    """
    if rows:
        words = _insertion(connection.dialect.name, table.name, tuple(columns), new)
        with _cursor(connection, words) as cursor:
            cursor.executemany(words, rows)


def insert_or_skip(dialect: str, table: Table) -> Any:
    """INSERT ... ON CONFLICT DO NOTHING in a dialect; the row that was there stays."""
    module = import_module(f"sqlalchemy.dialects.{dialect}")  # each takes a while to load
    return module.insert(table).on_conflict_do_nothing()


class Prepared:
    """A SELECT with named parameters. Its text is made once for each dialect, and rows are as the driver gives them."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._texts: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def __call__(self, connection: Connection, **values: Any) -> Sequence[Any]:
        """All rows; the parameter of an `among` is a list. Raises KeyError for a parameter that is not given."""
        dialect = connection.dialect.name
        words, names, own = self.text(dialect)
        values = {**own, **values}
        with _cursor(connection, words) as cursor:
            cursor.execute(words, tuple(_value(dialect, values[name]) for name in names))
            return cursor.fetchall()  # type: ignore[no-any-return]

    def text(self, dialect: str) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        """The statement in a dialect, its parameters' names in order, and the values of those that are its own."""
        if dialect not in self._texts:
            compiled: Any = self._statement.compile(dialect=_positional(dialect))
            own = {name: bound.value for name, bound in compiled.binds.items() if not bound.required}
            self._texts[dialect] = str(compiled), tuple(compiled.positiontup), own
        return self._texts[dialect]


class _Among(FunctionElement[Any]):
    inherit_cache = True
    type = NullType()  # a Boolean would be compared with 1 on SQLite, and found in no index


@compiles(_Among, "sqlite")
def _among_sqlite(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608  compiled clauses


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY({values})"


def among(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """`column` is one of the numbers that a `Prepared` is given as the list `name`: one parameter for any number."""
    return _Among(column, bindparam(name, type_=ARRAY(BigInteger)))


def one_of(connection: Connection, column: ColumnElement[Any], numbers: Sequence[int]) -> ColumnElement[bool]:
    """`column` is one of `numbers`, which are one parameter: the condition of an ordinary statement."""
    if connection.dialect.name == "sqlite":
        return column.in_(select(func.json_each(json.dumps(list(numbers))).table_valued("value").c.value))
    return column == any_(literal(list(numbers), ARRAY(BigInteger)))


def _value(dialect: str, value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) and dialect == "sqlite" else value


class RowIds:
    """Row ids of `tables` that nobody else will take. On SQLite they are ours until we commit, since the transaction is
    IMMEDIATE; on PostgreSQL they come from the sequences."""

    def __init__(self, connection: Connection, tables: Sequence[Table]) -> None:
        self._connection, self._last = connection, dict[str, int]()
        if connection.dialect.name == "sqlite":
            names = tuple(t.name for t in tables)
            (row,) = _last(names)(connection)
            self._last = {name: last or 0 for name, last in zip(names, row, strict=True)}

    def take(self, table: Table, count: int) -> list[int]:
        """The next `count`."""
        if not count:
            return []
        if self._connection.dialect.name == "postgresql":
            rows = _NEXT(self._connection, table=table.name, column="id", first=1, count=count)
            return [row[0] for row in rows]
        first = self._last[table.name] + 1
        self._last[table.name] += count
        return list(range(first, first + count))


@contextmanager
def _cursor(connection: Connection, words: str) -> Iterator[Any]:
    """The driver's cursor in the connection's transaction; its errors are SQLAlchemy's."""
    module: Any = connection.dialect.dbapi
    cursor = connection.connection.cursor()
    try:
        yield cursor
    except module.Error as fault:
        raise DBAPIError.instance(words, None, fault, module.Error, dialect=connection.dialect) from fault
    finally:
        cursor.close()


def _positional(dialect: str) -> Any:
    """The dialect with marks instead of names for values, which is what tuples go to."""
    name, style = {"postgresql": ("psycopg", "format"), "sqlite": ("pysqlite", "qmark")}[dialect]
    return import_module(f"sqlalchemy.dialects.{dialect}.{name}").dialect(paramstyle=style)


@functools.cache
def _insertion(dialect: str, name: str, columns: tuple[str, ...], new: bool) -> str:
    table = schema.metadata.tables[name]
    statement: Any = insert_or_skip(dialect, table) if new else insert(table)
    compiled = statement.compile(dialect=_positional(dialect), column_keys=list(columns))
    if list(compiled.positiontup) != list(columns):
        raise ValueError(f"columns of {name} out of order, or one with a default not given: {compiled.positiontup}")
    return str(compiled)


@functools.cache
def _last(names: tuple[str, ...]) -> Prepared:
    return Prepared(select(*(select(func.max(schema.metadata.tables[n].c.id)).scalar_subquery() for n in names)))


def _next() -> Prepared:
    sequence = func.pg_get_serial_sequence(bindparam("table", type_=Text), bindparam("column", type_=Text))
    numbers = func.generate_series(bindparam("first", type_=Integer), bindparam("count", type_=Integer))
    return Prepared(select(func.nextval(sequence)).select_from(numbers))


_NEXT = _next()
