"""Bytes for files, pipes and blobs: a JSON header plus arrays, never a pickle (decisions B2).

`pack`: the magic ``FARFIELD``, a 4-byte little-endian header length, the JSON header, then for each array an 8-byte
length and its npy block. `pack_rows`, for the blobs of a database, a third smaller at 54 atoms: the magic
``FARFROWS``, the header length, a header with name, type and shape of each array, then their bytes. Either is a
function of the content alone, so it can be hashed.
"""

from __future__ import annotations

import functools
import io
import json
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMIT", "pack", "pack_rows", "unpack", "unpack_alike"]

MAGIC, ROWS = b"FARFIELD", b"FARFROWS"
NPY = b"\x93NUMPY\x01\x00"
_parsing = threading.Lock()
LIMIT = 64 * 1024 * 1024
"""Largest blob, bytes (decisions A8)."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None, *, limit: int = LIMIT) -> bytes:
    """Bytes of a JSON-able `header` and named arrays. Raises ValueError above `limit` bytes or for object arrays."""
    arrays = dict(arrays or {})
    head = json.dumps({"header": dict(header), "arrays": sorted(arrays)}, sort_keys=True, allow_nan=False).encode()
    out = [MAGIC, struct.pack("<I", len(head)), head]
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        opening = _npy_opening(array.dtype, array.shape)
        out += [struct.pack("<Q", len(opening) + array.nbytes), opening, array.tobytes()]
    data = b"".join(out)
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes are above the limit of {limit}; use a smaller cell")
    return data


def pack_rows(kind: str, arrays: Mapping[str, NDArray[Any]], *, limit: int = LIMIT) -> bytes:
    """Bytes of named arrays of a `kind`, such as "result"; `unpack` gives them back with the header {"format": kind}.

    Raises ValueError above `limit` bytes or for object arrays.
    """
    layout = tuple((name, arrays[name].dtype.str, arrays[name].shape) for name in sorted(arrays))
    data = b"".join((_rows_opening(kind, layout), *(arrays[name].tobytes() for name, _, _ in layout)))
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes are above the limit of {limit}; use a smaller cell")
    return data


def unpack(data: bytes, *, limit: int = LIMIT) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and arrays of `pack` or `pack_rows`. Raises ValueError for foreign, truncated or oversized bytes."""
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes are above the limit of {limit}")
    if data[:8] == ROWS and len(data) >= 12:
        return _unpack_rows(data)
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
            arrays[name] = _read_npy(block)
            at += 8 + length
    except (struct.error, json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"truncated or damaged farfield block: {error}") from error
    return head["header"], arrays


def unpack_alike(blocks: Sequence[bytes]) -> list[tuple[NDArray[np.int64], dict[str, Any], dict[str, NDArray[Any]]]]:
    """Many blocks at once: for all that share a header their places in `blocks`, the header, and their arrays stacked
    along a new first axis (read-only). Raises ValueError as `unpack`."""
    if any(len(data) > LIMIT for data in blocks):
        raise ValueError(f"a block is above the limit of {LIMIT} bytes")
    alike: dict[bytes, list[int]] = {}
    out = []
    for place, data in enumerate(blocks):
        if data[:8] == ROWS and len(data) >= 12:
            alike.setdefault(data[: 12 + int.from_bytes(data[8:12], "little")], []).append(place)
        else:
            header, arrays = unpack(data)
            out.append((np.array([place]), header, {name: array[None] for name, array in arrays.items()}))
    for opening, places in alike.items():
        kind, layout, total = _rows_layout(opening[12:])
        size = 12 + int.from_bytes(opening[8:12], "little") + total  # a header that is cut off is shorter than it says
        if any(len(blocks[place]) != size for place in places):
            raise ValueError("truncated farfield block")
        record = np.dtype(
            {
                "names": [name for name, *_ in layout],
                "formats": [(dtype, shape) for _, dtype, shape, *_ in layout],
                "offsets": [len(opening) + start for *_, start in layout],
                "itemsize": size,
            }
        )
        stack = np.frombuffer(b"".join([blocks[place] for place in places]), record)
        out.append((np.array(places), {"format": kind}, {name: stack[name] for name, *_ in layout}))
    return out


def _unpack_rows(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    (size,) = struct.unpack_from("<I", data, 8)
    kind, layout, total = _rows_layout(data[12 : 12 + size])
    at = 12 + size
    if len(data) != at + total:
        raise ValueError("truncated farfield block")
    return {"format": kind}, {
        name: np.frombuffer(data, dtype, count, at + start).reshape(shape).copy()
        for name, dtype, shape, count, start in layout
    }


@functools.lru_cache(maxsize=4096)
def _rows_opening(kind: str, layout: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    for name, dtype, _ in layout:
        if np.dtype(dtype).hasobject:
            raise ValueError(f"{name} is an object array, which would need a pickle")
    if any(mark in text for mark in ":;" for text in (kind, *(name for name, _, _ in layout))):
        raise ValueError("names of arrays have no colons or semicolons")
    head = ";".join([kind, *(f"{n}:{d}:{','.join(map(str, s))}" for n, d, s in layout)]).encode()
    return ROWS + struct.pack("<I", len(head)) + head


Layout = tuple[str, "np.dtype[Any]", tuple[int, ...], int, int]


@functools.lru_cache(maxsize=4096)
def _rows_layout(head: bytes) -> tuple[str, tuple[Layout, ...], int]:
    """Format; name, type, shape, count and start of each array; bytes in all. Few cells have different headers."""
    try:
        kind, *fields = head.decode().split(";")
        out, at = [], 0
        for name, text, sizes in (field.split(":") for field in fields):
            dtype, shape = np.dtype(text), tuple(int(n) for n in sizes.split(",") if n)
            if dtype.hasobject or dtype.itemsize == 0 or any(n < 0 for n in shape):
                raise ValueError(f"{name} has the type {text}, which no block holds")
            count = int(np.prod(shape, dtype=np.int64))
            out.append((name, dtype, shape, count, at))
            at += count * dtype.itemsize
        return kind, tuple(out), at
    except (TypeError, ValueError) as error:
        raise ValueError(f"truncated or damaged farfield block: {error}") from error


@functools.lru_cache(maxsize=4096)
def _npy_opening(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What an npy block of version 1.0 begins with."""
    if dtype.hasobject:
        raise ValueError("object arrays would need a pickle")
    stream = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _read_npy(block: bytes) -> NDArray[Any]:
    """The array of an npy block of any version. Raises ValueError for a damaged one."""
    if block[:8] != NPY or len(block) < 10:
        return np.lib.format.read_array(io.BytesIO(block), allow_pickle=False)
    start = 10 + int.from_bytes(block[8:10], "little")
    shape, fortran, dtype = _npy_layout(block[:start])
    array = np.frombuffer(block, dtype, int(np.prod(shape, dtype=np.int64)), start)
    return array.reshape(shape, order="F" if fortran else "C").copy(order="K")


@functools.lru_cache(maxsize=4096)
def _npy_layout(opening: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type, which numpy reads with Python's own parser: that takes longer than
    the array, and is not safe among threads before Python 3.12 (a SystemError)."""
    stream = io.BytesIO(opening)
    np.lib.format.read_magic(stream)
    with _parsing:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("object arrays would need a pickle")
    return shape, fortran, dtype
