"""Blob rows: bytes written once, never changed (decisions A8)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection, insert, select

from farfield.db import schema
from farfield.errors import RecordError
from farfield.oracles.packing import LIMIT

__all__ = ["BLOCK", "blob_row", "blocks", "load_blob", "load_blobs", "store_blob", "store_blobs"]

T = TypeVar("T")

BLOCK = 400
"""Rows per statement: a bound IN list never grows with the campaign (store.md A5)."""


def blocks(items: Sequence[T], size: int = BLOCK) -> Iterator[Sequence[T]]:
    """`items` in runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def blob_row(data: bytes) -> dict[str, bytes]:
    """The columns of a blob. Raises RecordError above the limit of 64 MB."""
    if len(data) > LIMIT:
        raise RecordError(f"{len(data) / 2**20:.0f} MB are above the {LIMIT >> 20} MB of a blob; use smaller cells")
    return {"digest": hashlib.sha256(data).digest(), "data": data}


def store_blob(connection: Connection, data: bytes) -> int:
    """Insert one blob; its id. Raises RecordError above the limit of 64 MB."""
    return store_blobs(connection, [data])[0]


def store_blobs(connection: Connection, blobs: Sequence[bytes]) -> list[int]:
    """Insert blobs; their ids in order. Raises RecordError above the limit of 64 MB."""
    if not blobs:
        return []
    return list(connection.scalars(_STORE, [blob_row(data) for data in blobs]))


_STORE = insert(schema.blob).returning(schema.blob.c.id, sort_by_parameter_order=True)


def load_blob(connection: Connection, blob_id: int) -> bytes:
    """The bytes of a blob."""
    return bytes(connection.scalars(select(schema.blob.c.data).where(schema.blob.c.id == blob_id)).one())


def load_blobs(connection: Connection, ids: Collection[int]) -> dict[int, bytes]:
    """The bytes of blobs by id."""
    b = schema.blob.c
    found: dict[int, bytes] = {}
    for block in blocks(sorted(set(ids))):
        found.update((i, bytes(data)) for i, data in connection.execute(select(b.id, b.data).where(b.id.in_(block))))
    return found
