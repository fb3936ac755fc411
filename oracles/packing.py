"""Bytes for files, pipes and blobs: a JSON header plus npy blocks, never a pickle (decisions B2).

Layout: the magic ``FARFIELD``, a 4-byte little-endian header length, the JSON header, then for each array an
8-byte length and its npy block. The bytes are a function of the content alone, so they can be hashed.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMIT", "pack", "unpack"]

MAGIC = b"FARFIELD"
LIMIT = 64 * 1024 * 1024
"""Largest blob, bytes (decisions A8)."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None, *, limit: int = LIMIT) -> bytes:
    """Bytes of a JSON-able `header` and named arrays. Raises ValueError above `limit` bytes or for object arrays."""
    arrays = dict(arrays or {})
    head = json.dumps({"header": dict(header), "arrays": sorted(arrays)}, sort_keys=True, allow_nan=False).encode()
    out = [MAGIC, struct.pack("<I", len(head)), head]
    for name in sorted(arrays):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asarray(arrays[name], order="C"), version=(1, 0), allow_pickle=False)
        block = stream.getvalue()
        out += [struct.pack("<Q", len(block)), block]
    data = b"".join(out)
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes are above the limit of {limit}; use a smaller cell")
    return data


def unpack(data: bytes, *, limit: int = LIMIT) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and arrays of `pack`. Raises ValueError for foreign, truncated or oversized bytes."""
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes are above the limit of {limit}")
    if data[:8] != MAGIC or len(data) < 12:
        raise ValueError("not a farfield block (wrong magic)")
    (size,) = struct.unpack_from("<I", data, 8)
    try:
        head = json.loads(data[12 : 12 + size])
        at = 12 + size
        arrays: dict[str, NDArray[Any]] = {}
        for name in head["arrays"]:
            (length,) = struct.unpack_from("<Q", data, at)
            block = data[at + 8 : at + 8 + length]
            if len(block) != length:
                raise ValueError("truncated farfield block")
            arrays[name] = np.lib.format.read_array(io.BytesIO(block), allow_pickle=False)
            at += 8 + length
    except (struct.error, json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"truncated or damaged farfield block: {error}") from error
    return head["header"], arrays
