"""What a database is and holds, quickly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Integer, cast, column, func, select, table, text
from sqlalchemy.exc import DBAPIError

from farfield.db import schema, sessions
from farfield.db.datasets import datasets
from farfield.db.engine import Database

__all__ = ["info"]

LARGE = 200_000
"""Rows from which on PostgreSQL's own estimate is given: counting them takes time."""


def info(database: Database) -> dict[str, Any]:
    """A JSON-able account: back end, revision, size in bytes, rows by table ("about" where estimated), bytes by table,
    campaigns, oracles, datasets, live sessions."""
    g, k, w = schema.campaign.c, schema.oracle.c, schema.worker_session.c
    with database.read() as connection:
        rows = {t.name: _rows(connection, t) for t in schema.metadata.sorted_tables}
        names = connection.execute(select(g.name, g.state).order_by(g.id)).all()
        oracles = connection.execute(select(k.fingerprint, k.fingerprint_hash).order_by(k.id)).all()
        held = [sessions.holder(connection, i) for i in connection.scalars(select(w.id).where(w.closed.is_(None)))]
        size, tables = _sizes(database, connection)
    return {
        "database": database.shown,
        "back end": database.dialect,
        "revision": schema.REVISION,
        "bytes": size,
        "rows": {name: count for name, (count, _) in rows.items()},
        "about": [name for name, (_, estimated) in rows.items() if estimated],
        "bytes by table": tables,
        "campaigns": {name: state for name, state in names},
        "oracles": {digest[:12]: str(fingerprint.get("adapter", "")) for fingerprint, digest in oracles},
        "datasets": {d.name: d.members for d in datasets(database)},
        "live sessions": [str(h) for h in held if h is not None],
    }


def _rows(connection: Connection, held: Any) -> tuple[int, bool]:
    if connection.dialect.name == "postgresql":
        classes = table("pg_class", column("reltuples"), column("oid"))
        about = connection.scalar(
            select(cast(classes.c.reltuples, Integer)).where(classes.c.oid == func.to_regclass(held.name))
        )
        if about is not None and about > LARGE:
            return int(about), True
    return int(connection.scalar(select(func.count()).select_from(held)) or 0), False


def _sizes(database: Database, connection: Connection) -> tuple[int, dict[str, int]]:
    if database.dialect == "postgresql":
        sizes = {
            t.name: int(connection.scalar(select(func.pg_total_relation_size(func.to_regclass(t.name)))) or 0)
            for t in schema.metadata.sorted_tables
        }
        return int(connection.scalar(select(func.pg_database_size(func.current_database()))) or 0), sizes
    path = Path(database.path)
    size = sum(os.path.getsize(p) for p in (path, path.with_name(path.name + "-wal")) if p.exists())
    try:
        found = connection.execute(text("SELECT m.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_schema m "
                                        "ON m.name = d.name GROUP BY m.tbl_name"))  # fmt: skip
        return size, {name: int(held) for name, held in found if name in schema.metadata.tables}
    except DBAPIError:
        return size, {}  # an SQLite without dbstat
