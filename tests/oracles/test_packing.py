"""Bytes that hold arrays: what goes in comes out, one by one and many at once, and nothing else is read."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from farfield.oracles import packing
from farfield.oracles.packing import pack, pack_rows, unpack, unpack_alike

TYPES = ("<f8", "<f4", "<i8", "u1", "?")
some_arrays = st.dictionaries(
    st.sampled_from(["cell", "positions", "numbers", "E"]),
    st.sampled_from(TYPES).flatmap(lambda t: arrays(t, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
    max_size=3,
)


def equal(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )


@given(some_arrays)
def test_what_goes_in_comes_out(content: dict) -> None:
    header, back = unpack(pack({"format": "x", "n": 1}, content))
    assert header == {"format": "x", "n": 1}
    assert equal(back, content)
    header, back = unpack(pack_rows("kind", content))
    assert header == {"format": "kind"}
    assert equal(back, content)


@given(st.lists(st.tuples(some_arrays, st.booleans(), st.sampled_from(["a", "b"])), max_size=8))
def test_many_at_once_are_as_one_by_one(contents: list) -> None:
    """Blocks of both forms, with headers that agree and that do not, each in its place."""
    blocks = [pack_rows(kind, c) if rows else pack({"format": kind}, c) for c, rows, kind in contents]
    seen = {}
    for places, header, stacks in unpack_alike(blocks):
        for i, place in enumerate(places):
            seen[int(place)] = header, {name: stack[i] for name, stack in stacks.items()}
    assert sorted(seen) == list(range(len(blocks)))
    for place, data in enumerate(blocks):
        header, content = unpack(data)
        assert seen[place][0] == header
        assert equal(seen[place][1], content)


GOOD = pack_rows("result", {"F": np.arange(6.0).reshape(2, 3), "E": np.array(1.0)})


@pytest.mark.parametrize("end", range(len(GOOD)))
def test_what_is_cut_off_is_refused(end: int) -> None:
    for read in (unpack, lambda data: unpack_alike([GOOD, data])):
        with pytest.raises(ValueError, match="farfield block"):
            read(GOOD[:end])


@given(st.integers(0, 60), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_as_arrays(place: int, value: int) -> None:
    """No other error, whatever the header says then."""
    data = GOOD[:place] + bytes([value]) + GOOD[place + 1 :]
    for read in (unpack, lambda data: unpack_alike([data])):
        with contextlib.suppress(ValueError):
            read(data)


def test_nothing_of_an_endless_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LIMIT", 100)
    with pytest.raises(ValueError, match="limit"):
        unpack_alike([GOOD, b"x" * 101])
    with pytest.raises(ValueError, match="limit"):
        pack_rows("x", {"a": np.zeros(100)}, limit=100)
    with pytest.raises(ValueError, match="limit"):
        unpack(GOOD, limit=10)


def test_objects_would_need_a_pickle() -> None:
    for write in (pack_rows, lambda kind, content: pack({}, content)):
        with pytest.raises(ValueError, match="pickle"):
            write("x", {"a": np.array([object()])})


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_npy_block_is_read_as_numpy_reads_it(version: tuple[int, int], order: str) -> None:
    array = np.arange(6.0).reshape((2, 3), order=order)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    block = stream.getvalue()
    head = b'{"arrays": ["x"], "header": {}}'
    data = b"FARFIELD" + struct.pack("<I", len(head)) + head + struct.pack("<Q", len(block)) + block
    _, found = unpack(data)
    assert np.array_equal(found["x"], array)
    assert found["x"].flags.writeable
    short = block[:-8]
    with pytest.raises(ValueError, match=r"buffer|array|bytes"):
        unpack(data.replace(struct.pack("<Q", len(block)) + block, struct.pack("<Q", len(short)) + short))
