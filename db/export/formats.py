"""The formats there are: how each is called, what it needs, and who writes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from farfield.db.engine import Database
from farfield.db.export.extxyz import Keys
from farfield.db.export.links import Link
from farfield.db.export.weights import Weighed
from farfield.db.query import Labelled
from farfield.errors import RecordError

__all__ = ["FORMATS", "Format", "Writer", "format_of"]


class Writer(Protocol):
    """Takes rows in; after `close` the file or folder is whole. `said`: what the manifest adds."""

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None: ...
    def close(self) -> None: ...
    def said(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Format:
    """`title` for the manifest, `for_whom` for the help, `needs`: packages that pip brings with farfield[data].
    `displaced`: it holds displaced cells of force-constant columns, and other rows are passed over."""

    title: str
    for_whom: str
    suffixes: tuple[str, ...]
    writer: str
    weights: bool = False
    needs: tuple[str, ...] = ()
    displaced: bool = False

    def open(self, part: Path, keys: Keys, database: Database) -> Writer:
        """A writer on the new file or folder `part`. Raises RecordError where a package is missing."""
        for package in self.needs:
            try:
                importlib.import_module(package)
            except ImportError as fault:
                raise RecordError(f"this format needs {package}; pip install 'farfield[data]'") from fault
        room, name = self.writer.rsplit(".", 1)
        make: Callable[..., Writer] = getattr(importlib.import_module(f"farfield.db.export.{room}"), name)
        return make(part, keys, database)


FORMATS: dict[str, Format] = {
    "extxyz": Format(
        "farfield extended XYZ 2",
        "MACE, NequIP, Allegro, ACEpotentials, pacemaker and GRACE (through their collectors), ASE",
        (".xyz", ".extxyz"),
        "extxyz.ExtxyzWriter",
        weights=True,
    ),
    "ase": Format("ase.db", "ase.db, and whatever reads it", (".db",), "ase_database.AseWriter"),
    "npz": Format("farfield arrays 1, npz", "numpy", (".npz",), "flat_arrays.NpzWriter"),
    "hdf5": Format("farfield arrays 1, HDF5", "h5py", (".h5", ".hdf5"), "flat_arrays.Hdf5Writer", needs=("h5py",)),
    "parquet": Format(
        "farfield scalars 1, Parquet", "pandas, polars, duckdb: the table of scalars", (".parquet",),
        "scalar_table.ParquetWriter", needs=("pyarrow",),
    ),
    "deepmd": Format("DeePMD npy", "DeePMD-kit, DP-GEN, dpdata: a folder of systems", (), "deepmd.DeepmdWriter"),
    "phonopy": Format(
        "phonopy FORCE_SETS", "phonopy: the displaced cells of force-constant columns, a folder for each cell", (),
        "force_sets.PhonopyWriter", displaced=True,
    ),
}  # fmt: skip


def format_of(path: Path) -> str:
    """The format that a file's suffix stands for. Raises RecordError where it stands for none."""
    for name, form in FORMATS.items():
        if path.suffix.lower() in form.suffixes:
            return name
    raise RecordError(f"the name {path.name} does not tell the format; say --format {'|'.join(FORMATS)}")
