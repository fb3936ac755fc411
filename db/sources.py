"""Files that labels were imported from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from farfield.db import schema
from farfield.db.calculations import insert_new, store_oracle
from farfield.db.clock import now
from farfield.db.engine import Database

__all__ = ["StoredSource", "file_hash", "note_source", "open_source", "sources"]


@dataclass(frozen=True)
class StoredSource:
    """An import: name and hash of the file, hash of the oracle's fingerprint, what became of it, the time."""

    id: int
    name: str
    sha256: str
    fingerprint: str
    content: dict[str, Any]
    created: float


def open_source(database: Database, name: str, sha256: str, fingerprint: Mapping[str, Any]) -> int:
    """The row of a file's import under an oracle, new or of an earlier import of the same bytes."""
    r = schema.source.c
    with database.write() as connection:
        oracle = store_oracle(connection, fingerprint)
        values = {"name": name, "sha256": sha256, "oracle_id": oracle, "content": {}, "created": now()}
        connection.execute(insert_new(connection, schema.source).values(values))
        return int(connection.scalars(select(r.id).where(r.sha256 == sha256, r.oracle_id == oracle)).one())


def note_source(database: Database, source: int, content: Mapping[str, Any]) -> None:
    """Store what became of an import."""
    with database.write() as connection:
        connection.execute(update(schema.source).where(schema.source.c.id == source).values(content=dict(content)))


def sources(database: Database) -> list[StoredSource]:
    """Every import, oldest first."""
    r, k = schema.source.c, schema.oracle.c
    with database.read() as connection:
        rows = connection.execute(
            select(schema.source, k.fingerprint_hash).join(schema.oracle, k.id == r.oracle_id).order_by(r.id)
        ).all()
    return [StoredSource(x.id, x.name, x.sha256, x.fingerprint_hash, x.content, x.created) for x in rows]


def file_hash(path: Path) -> str:
    """sha256 of a file, hexadecimal. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
