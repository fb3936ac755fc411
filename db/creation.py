"""A new database: all tables at once, in a file that nobody sees before it is whole."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from farfield.db.outage import line_of
from farfield.db.schema import REVISION, metadata
from farfield.errors import RecordError

__all__ = ["PAGE_SIZE", "create_file", "make_tables"]

PAGE_SIZE = 8192


def make_tables(connection: Connection) -> None:
    """The tables of a new database, at the revision that all migrations lead to as well (a test compares them)."""
    metadata.create_all(connection)
    version = Table("alembic_version", MetaData(), Column("version_num", String(32), nullable=False))
    version.append_constraint(PrimaryKeyConstraint("version_num", name="alembic_version_pkc"))
    version.create(connection)
    connection.execute(version.insert().values(version_num=REVISION))


def create_file(path: Path) -> None:
    """Make the file beside its place and link it there: half a database is never seen, and one creator wins."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.touch(exist_ok=False)
        engine = create_engine(URL.create("sqlite", database=str(new)), connect_args={"isolation_level": None})
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA page_size = {PAGE_SIZE}")
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                make_tables(connection)
                connection.commit()
        finally:
            engine.dispose()
        try:
            os.link(new, path)
        except FileExistsError:
            pass  # another process was first; its file is as good
        except OSError:
            new.rename(path)  # a file system without hard links
    except (OSError, DBAPIError) as fault:
        raise RecordError(
            f"cannot make the database {path} ({line_of(fault)}); change run.folder or database.url"
        ) from fault
    finally:
        for suffix in ("", "-wal", "-shm"):
            new.with_name(new.name + suffix).unlink(missing_ok=True)
