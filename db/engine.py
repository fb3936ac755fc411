"""Open a database: SQLite in WAL mode on one host, or PostgreSQL (decisions A8, store.md A3).

Writing transactions begin IMMEDIATE on SQLite, so that no read snapshot is ever upgraded to a write: that fails at once
whatever the timeout. The schema revision is read before anything is written; another one is refused.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Engine, Text, create_engine, event, func, inspect, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.sql import column, table

from farfield.db.creation import PAGE_SIZE, create_file, make_tables
from farfield.db.outage import line_of
from farfield.db.places import check_place
from farfield.db.schema import REVISION, metadata
from farfield.db.server import server_engine
from farfield.errors import RecordError, SchemaError

__all__ = [
    "Database",
    "empty_database",
    "known_revisions",
    "open_database",
    "parse_url",
    "plain_engine",
    "revision_of",
]

BUSY_SECONDS = 60.0
"""How long a writer waits for the others."""
CHECKPOINT_PAGES = 4000
"""Pages of the log that are brought into the file at once (32 MB): indexes change the same pages again and again, so a
commit costs a quarter less than with SQLite's thousand."""
CREATION_LOCK = 0x66617266
"""PostgreSQL advisory lock under which the tables are made once."""

VERSIONS = table("alembic_version", column("version_num", Text()))


class Database:
    """An open database of one process; close it, or use it as a context. Not for use across a fork.

    `write()` is a durable transaction (synchronous FULL: results, decisions, claims), `write(relaxed=True)` one that
    survives the death of the process but perhaps not of the power (heartbeats, imports). `read()` is one snapshot; keep
    it short, since it holds back checkpoints. `engine` and `relaxed` are the engines below.
    """

    def __init__(self, url: URL, *, readonly: bool = False) -> None:
        self._url, self.readonly = url, readonly
        self.dialect = url.get_backend_name()
        self.engine = _engine(url, readonly=readonly, durable=True)
        self.relaxed = _engine(url, readonly=readonly, durable=False)
        self._reader = self.engine.execution_options(farfield_read=True)
        self._single = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        if self.dialect == "postgresql":
            self._reader = self._reader.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def shown(self) -> str:
        """The URL for people, its password hidden."""
        return self._url.render_as_string(hide_password=True)

    @property
    def path(self) -> str:
        """The file of an SQLite database; the name of another."""
        return str(self._url.database)

    @contextmanager
    def write(self, *, relaxed: bool = False) -> Iterator[Connection]:
        """A writing transaction: committed at the end, rolled back when anything is raised."""
        if self.readonly:
            raise RecordError(f"{self.shown} was opened for reading only; nothing was written")
        with (self.relaxed if relaxed else self.engine).begin() as connection:
            yield connection

    @contextmanager
    def singly(self) -> Iterator[Connection]:
        """For one statement that writes and is a transaction by itself: on PostgreSQL it goes over the wire alone, and
        says itself where it may be lost with the power."""
        if self.dialect == "sqlite":
            with self.write(relaxed=True) as connection:
                yield connection
            return
        if self.readonly:
            raise RecordError(f"{self.shown} was opened for reading only; nothing was written")
        with self._single.connect() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A reading transaction: one snapshot of the database."""
        with self._reader.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self.relaxed.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_database(url: str, create: bool = False, readonly: bool = False) -> Database:
    """The database at `url` (``sqlite:///file.db`` or ``postgresql://...``), checked.

    `create` makes it where there is none. Raises RecordError for a place that cannot hold it or cannot be reached and
    SchemaError for a schema that is not this program's; either leaves what is there untouched.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database)).absolute()
        check_place(path, create=create, readonly=readonly)
        if not path.exists():
            create_file(path)
        parsed = parsed.set(database=str(path))
    _check_revision(parsed, create=create)
    return Database(parsed, readonly=readonly)


def parse_url(url: str) -> URL:
    """The URL that `url` means. Raises RecordError for what is none, or for another kind of database."""
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        backend = parsed.get_backend_name()
        if backend in ("sqlite", "postgresql"):
            parsed.get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError) as fault:
        raise RecordError("database.url is no database URL; write sqlite:///file.db or postgresql://...") from fault
    except ImportError as fault:
        raise RecordError(f"PostgreSQL needs a driver ({fault}); pip install 'psycopg[binary]'") from fault
    if backend not in ("sqlite", "postgresql"):
        raise RecordError(f"a {backend} database cannot hold the record; use sqlite:///file.db or postgresql://...")
    if backend == "sqlite" and (parsed.database in (None, "", ":memory:") or parsed.query):
        raise RecordError("several processes share the record, so it needs a plain file; write sqlite:///file.db")
    return parsed


def _engine(url: URL, *, readonly: bool, durable: bool, probe: bool = False) -> Engine:
    if url.get_backend_name() == "postgresql":
        return server_engine(url, durable=durable)
    path = Path(str(url.database))
    # a connection that may write cleans up behind itself; query_only keeps it from writing
    mode = "ro" if probe or not os.access(path.parent, os.W_OK) else "rw"
    query = {"uri": "true", "mode": mode}
    wal = path.with_name(path.name + "-wal")
    if mode == "ro" and not (wal.exists() and wal.stat().st_size):
        query["immutable"] = "1"  # nothing to recover, and no file is made beside it
    name = path.as_posix().replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    url = url.set(database=f"file:{name}", query=query)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if readonly:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        if readonly or connection.get_execution_options().get("farfield_read"):
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_writing(connection)

    return engine


def _begin_writing(connection: Connection) -> None:
    """Take SQLite's one place to write, asking every other millisecond.

    SQLite's own wait sleeps up to 0.1 s at a time, through which writers with more luck take turns.
    """
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute("PRAGMA busy_timeout = 0")
    end = time.monotonic() + BUSY_SECONDS
    try:
        while time.monotonic() < end:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as fault:
                if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            time.sleep(random.uniform(0.0005, 0.002))
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the fault, as SQLAlchemy names it
    finally:
        raw.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_SECONDS)}")


def _check_revision(url: URL, *, create: bool) -> None:
    """Compare the schema revision with ours; on an empty PostgreSQL database with `create`, make the tables."""
    shown = url.render_as_string(hide_password=True)
    engine = _engine(url, readonly=True, durable=True, probe=True)
    try:
        with engine.connect() as connection:
            found = revision_of(connection)
        if found is None and create and url.get_backend_name() == "postgresql":
            with engine.begin() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(CREATION_LOCK)))
                if revision_of(connection) is None:
                    make_tables(connection)
            found = REVISION
    except DBAPIError as fault:
        raise RecordError(f"cannot open {shown} ({line_of(fault)}); check database.url and the server") from fault
    finally:
        engine.dispose()
    if found is None:
        raise SchemaError(
            f"{shown} holds no farfield tables; name another database.url, or start one with `farfield run`",
            expected=REVISION,
        )
    if found in known_revisions() and found != REVISION:
        raise SchemaError(
            f"{shown} has schema revision {found} of an earlier farfield; run `farfield db upgrade {shown}`, "
            "which backs it up first",
            found=found,
            expected=REVISION,
        )
    if found != REVISION:
        raise SchemaError(
            f"{shown} has schema revision {found}, and this farfield knows {REVISION}; "
            "open it with the farfield that wrote it (a newer one: pip install --upgrade farfield)",
            found=found,
            expected=REVISION,
        )


def revision_of(connection: Connection) -> str | None:
    """The schema revision, None where there are neither Alembic's nor our tables; "none" for tables without one."""
    names = inspect(connection).get_table_names()
    if "alembic_version" in names:
        versions = connection.scalars(select(VERSIONS.c.version_num)).all()
        if versions:
            return ", ".join(sorted(str(v) for v in versions))
    return "none" if set(names) & set(metadata.tables) else None


def known_revisions() -> tuple[str, ...]:
    """Revisions that this program can read or upgrade, oldest first."""
    return tuple(f"{n:04d}" for n in range(1, int(REVISION) + 1))


def plain_engine(url: URL) -> Engine:
    """An engine that leaves transactions to its caller, for migrations and copies; the file must exist."""
    if url.get_backend_name() == "postgresql":
        return server_engine(url)
    return create_engine(
        url.set(database=str(Path(str(url.database)).absolute())),
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
    )


def empty_database(url: URL) -> Engine:
    """An engine on the database at `url`, which is made without tables where there is none; for copies."""
    if url.get_backend_name() == "postgresql":
        return server_engine(url)
    path = Path(str(url.database)).absolute()
    check_place(path, create=True, readonly=False)
    engine = plain_engine(url)
    if not path.exists():
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
