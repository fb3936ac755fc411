"""Where the bytes of a file go: tables and indexes, by SQLite's own account of its pages."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from workload import PAYLOAD


def breakdown(path: Path, count: int) -> dict[str, float]:
    """Bytes per frame by table, each table's indexes together, the whole file, and the payload."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        owners = dict(connection.execute("SELECT name, tbl_name FROM sqlite_master"))
        sizes = connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall()
    connection.close()
    out: dict[str, float] = {}
    for name, size in sizes:
        table = owners.get(name, name)
        part = name if table == name else f"indexes of {table}"
        out[part] = out.get(part, 0.0) + size / count
    small = sum(size for size in out.values() if size < 10)
    out = {name: size for name, size in sorted(out.items(), key=lambda item: -item[1]) if size >= 10}
    return {**out, "the rest": small, "file": path.stat().st_size / count, "payload": float(PAYLOAD)}
