"""All structures and labels as a few flat arrays, in npz or HDF5: those of `query.Block`, end to end.

Atoms of structure i are offsets[i]:offsets[i + 1]. `has` (n, 3) says whether E, F, V were computed; where one was not,
its numbers are NaN, so that nobody trains on them unawares.
"""

from __future__ import annotations

import tempfile
import zipfile
from array import array
from io import FileIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from farfield.db.engine import Database
from farfield.db.export.config_types import config_type
from farfield.db.export.extxyz import Keys
from farfield.db.export.links import Link
from farfield.db.export.weights import Weighed
from farfield.db.query import Labelled

__all__ = ["UNITS", "Hdf5Writer", "NpzWriter"]

UNITS = {
    "offsets": "first atom of each structure, and the number of atoms",
    "numbers": "atomic numbers",
    "positions": "Å",
    "cells": "Å, rows are vectors",
    "pbc": "whether each vector is periodic",
    "energies": "eV, total",
    "forces": "eV/Å, -dE/dr, raw",
    "virials": "eV, total, -dE/d(strain) = -volume * stress; Voigt order xx yy zz yz xz xy",
    "has": "whether E, F, V were computed",
    "calculations": "keys",
    "config_types": "host, defect, rung, strain, fc, ...",
}
SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "numbers": ((), "u1"),
    "positions": ((3,), "<f8"),
    "cells": ((3, 3), "<f8"),
    "pbc": ((3,), "?"),
    "energies": ((), "<f8"),
    "forces": ((3,), "<f8"),
    "virials": ((6,), "<f8"),
    "has": ((3,), "?"),
    "calculations": ((), "S64"),
    "config_types": ((), "S32"),
}
CHUNK = 256
"""Structures written at once."""


class _Flat:
    """Gathers rows and hands them on in chunks."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self.offsets = array("q", [0])  # a list would take five times the memory, all of it held to the end

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None:
        """Take a row in."""
        atoms, known = row.structure_atoms(), row.labels
        n = len(atoms)
        self.offsets.append(self.offsets[-1] + n)
        self._rows.append(
            {
                "numbers": atoms.numbers,
                "positions": atoms.positions,
                "cells": atoms.cell.array[None],
                "pbc": atoms.pbc[None],
                "energies": [np.nan if known.energy is None else known.energy],
                "forces": np.full((n, 3), np.nan) if known.forces is None else known.forces,
                "virials": np.full((1, 6), np.nan) if known.virial is None else known.virial[None],
                "has": [[known.energy is not None, known.forces is not None, known.virial is not None]],
                "calculations": [row.calculation.encode()],
                "config_types": [config_type(row.role).encode()[:32]],
            }
        )
        if len(self._rows) == CHUNK:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        for name, (_, dtype) in SHAPES.items() if rows else ():
            self._append(name, np.concatenate([np.asarray(r[name], dtype) for r in rows]))

    def _append(self, name: str, values: Any) -> None:
        raise NotImplementedError

    def said(self) -> dict[str, Any]:
        """The units."""
        return {"units": UNITS, "missing_labels": "NaN where `has` is false"}


class NpzWriter(_Flat):
    """Appends to raw files beside, and binds them into one npz at the end: memory stays flat."""

    def __init__(self, part: Path, keys: Keys, database: Database) -> None:
        super().__init__()
        self._part = part
        self._folder = tempfile.TemporaryDirectory(prefix=part.name, dir=part.parent)
        self._files: dict[str, IO[bytes]] = {name: (Path(self._folder.name) / name).open("w+b") for name in SHAPES}

    def _append(self, name: str, values: Any) -> None:
        self._files[name].write(values.tobytes())

    def close(self) -> None:
        """Bind the arrays into one file."""
        self._flush()
        try:
            with zipfile.ZipFile(self._part, "w", zipfile.ZIP_STORED, allowZip64=True) as bound:
                for name, (shape, dtype) in SHAPES.items():
                    stream = self._files[name]
                    rows = stream.tell() // (np.dtype(dtype).itemsize * int(np.prod(shape, dtype=int)))
                    stream.seek(0)
                    with _member(bound, name) as out:
                        _header(out, np.dtype(dtype), (rows, *shape))
                        while block := stream.read(1 << 20):
                            out.write(block)
                offsets = np.asarray(self.offsets, "<i8")
                with _member(bound, "offsets") as out:
                    _header(out, offsets.dtype, offsets.shape)
                    out.write(offsets.tobytes())
        finally:
            for stream in self._files.values():
                stream.close()
            self._folder.cleanup()


def _member(bound: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # the same bytes whenever it is written
    return bound.open(info, "w", force_zip64=True)


def _header(out: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, description)


class _Sink(FileIO):
    """A file that keeps the first fault of writing for `check`: HDF5 crashes the process over a full disk."""

    fault: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, or note the fault."""
        rest = memoryview(data).cast("B")
        try:
            while len(rest) and self.fault is None:
                rest = rest[super().write(rest) :]
        except OSError as fault:
            self.fault = fault
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or note the fault."""
        try:
            return super().truncate(size)
        except OSError as fault:
            self.fault = fault
            return self.tell() if size is None else size

    def check(self) -> None:
        """Raise the fault, if there was one."""
        if self.fault is not None:
            raise self.fault


class Hdf5Writer(_Flat):
    """Resizable datasets with units as attributes."""

    def __init__(self, part: Path, keys: Keys, database: Database) -> None:
        import h5py

        super().__init__()
        self._sink = _Sink(part, "w+")
        self._file = h5py.File(self._sink, "w", track_order=False)
        self._file.attrs["format"] = "farfield arrays 1"
        for name, (shape, dtype) in SHAPES.items():
            self._file.create_dataset(
                name, (0, *shape), np.dtype(dtype), maxshape=(None, *shape), chunks=(4096, *shape), track_times=False
            ).attrs["units"] = UNITS[name]

    def _append(self, name: str, values: Any) -> None:
        held = self._file[name]
        held.resize(len(held) + len(values), axis=0)
        held[len(held) - len(values) :] = values
        self._sink.check()

    def close(self) -> None:
        """Write the offsets and close the file."""
        if not self._file.id.valid:
            return
        self._flush()
        self._file.create_dataset("offsets", data=np.asarray(self.offsets, "<i8"), track_times=False).attrs["units"] = (
            UNITS["offsets"]
        )
        self._file.close()
        self._sink.close()
        self._sink.check()
