"""Bring a database of an earlier revision up to date, after a backup."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from farfield.db import schema
from farfield.db.clock import now
from farfield.db.engine import known_revisions, parse_url, plain_engine, revision_of
from farfield.db.migrations import upgrade as migrate
from farfield.db.sessions import LEASE_SECONDS
from farfield.errors import RecordError, SchemaError

__all__ = ["Upgraded", "upgrade"]


@dataclass(frozen=True)
class Upgraded:
    """From which revision to which, and where the backup lies (None on PostgreSQL, or where nothing was to be done)."""

    before: str
    after: str
    backup: Path | None


def upgrade(url: str, *, without_backup: bool = False) -> Upgraded:
    """Upgrade the database at `url` in one transaction; killed on the way it stays what it was.

    SQLite is copied first, to ``<name>.before-<revision>.db`` beside it. PostgreSQL is backed up by its own tools,
    which `without_backup` says was done. Raises RecordError for a database in use or without a backup, SchemaError
    for a revision that is none of ours.
    """
    parsed = parse_url(url)
    path = Path(str(parsed.database)).absolute() if parsed.get_backend_name() == "sqlite" else None
    if path is not None and not path.exists():
        raise RecordError(f"there is no database {path}; check the name")
    engine = plain_engine(parsed)
    try:
        with engine.connect() as connection:
            before = revision_of(connection)
            _refuse(before)
            assert before is not None
            if before == schema.REVISION:
                return Upgraded(before, before, None)
            _refuse_live(connection)
        if path is None and not without_backup:
            raise RecordError(
                "PostgreSQL is backed up by its own tools: run pg_dump first, then say the same with --no-backup"
            )
        backup = None if path is None or without_backup else _backup(path, before)
        _migrate(engine)
        return Upgraded(before, schema.REVISION, backup)
    except DBAPIError as fault:
        why = " ".join(str(fault.orig).split())
        raise RecordError(f"the upgrade failed ({why}); the database is as it was") from fault
    finally:
        engine.dispose()


def _refuse(before: str | None) -> None:
    if before is None or before == "none":
        raise SchemaError("there are no farfield tables; nothing to upgrade", expected=schema.REVISION)
    if before not in known_revisions():
        raise SchemaError(
            f"its revision {before} is newer than this farfield; pip install --upgrade farfield",
            found=before,
            expected=schema.REVISION,
        )


def _refuse_live(connection: Connection) -> None:
    w = schema.worker_session.c
    fresh = w.beat > now() - LEASE_SECONDS
    live = connection.scalar(select(func.count()).select_from(schema.worker_session).where(w.closed.is_(None), fresh))
    if live:
        raise RecordError(f"{live} processes use this database; stop the campaigns first (farfield stop)")


def _backup(path: Path, revision: str) -> Path:
    target = path.with_name(f"{path.stem}.before-{schema.REVISION}-of-{revision}.db")
    if target.exists():
        raise RecordError(f"the backup {target.name} is there already; move it away, then say the same again")
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with sqlite3.connect(f"file:{path.as_posix()}?mode=ro", uri=True) as mine, sqlite3.connect(part) as theirs:
            mine.backup(theirs)
            (verdict,) = theirs.execute("PRAGMA integrity_check").fetchone()
        mine.close()
        theirs.close()
        if verdict != "ok":
            raise RecordError(f"the backup is not sound ({verdict}); run `farfield db check` first")
        part.replace(target)
    except (sqlite3.Error, OSError) as fault:
        raise RecordError(f"cannot write the backup {target} ({fault}); make room beside the database") from fault
    finally:
        part.unlink(missing_ok=True)
    return target


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # tables are made anew under their old names, which references from other tables must not notice
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.begin()
        migrate(connection)
        if engine.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                connection.rollback()
                raise RecordError(f"{len(broken)} rows refer to rows that are not there; run `farfield db check`")
        connection.commit()
