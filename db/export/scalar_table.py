"""The table of scalars as Parquet: one row a calculation, no arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from farfield.db.engine import Database
from farfield.db.export.config_types import config_type
from farfield.db.export.extxyz import Keys
from farfield.db.export.links import Link
from farfield.db.export.weights import Weighed
from farfield.db.query import Labelled

__all__ = ["ParquetWriter"]

COLUMNS: dict[str, tuple[str, str]] = {
    "calculation": ("string", "key"),
    "structure": ("string", "key"),
    "formula": ("string", ""),
    "natoms": ("int32", ""),
    "config_type": ("string", ""),
    "campaign": ("string", ""),
    "decision": ("int32", ""),
    "ordinal": ("int32", ""),
    "role": ("string", ""),
    "term": ("string", "term of the estimate that asked for it"),
    "n1": ("int32", "conventional cells"),
    "n2": ("int32", "conventional cells"),
    "n3": ("int32", "conventional cells"),
    "part": ("string", "of the split"),
    "fingerprint": ("string", "hash of the oracle's"),
    "energy": ("float64", "eV, total"),
    "energy_per_atom": ("float64", "eV"),
    "fmax": ("float64", "eV/Å, largest force"),
    "virial": ("float64", "eV, a third of the trace"),
    "volume": ("float64", "Å^3"),
    "step": ("float64", "Å, of a displaced cell"),
}
CHUNK = 5000


class ParquetWriter:
    """Row groups of some thousand rows, units in the schema."""

    def __init__(self, part: Path, keys: Keys, database: Database) -> None:
        import pyarrow
        from pyarrow import parquet

        self._arrow = pyarrow
        types = {"string": pyarrow.string(), "int32": pyarrow.int32(), "float64": pyarrow.float64()}
        self._schema = pyarrow.schema(
            [pyarrow.field(name, types[kind], metadata={"units": units}) for name, (kind, units) in COLUMNS.items()],
            metadata={"format": "farfield scalars 1"},
        )
        self._writer = parquet.ParquetWriter(part, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None:
        """Take a row in."""
        atoms, known, rung = row.structure_atoms(), row.labels, row.rung or (None, None, None)
        n = len(atoms)
        self._rows.append(
            {
                **{k: getattr(row, k) for k in ("calculation", "structure", "formula", "campaign", "decision")},
                **{k: getattr(row, k) for k in ("ordinal", "role", "term", "part", "fingerprint")},
                **dict(zip(("n1", "n2", "n3"), rung, strict=True)),
                "natoms": n,
                "config_type": config_type(row.role),
                "energy": known.energy,
                "energy_per_atom": None if known.energy is None else known.energy / n,
                "fmax": None if known.forces is None else float(np.linalg.norm(known.forces, axis=1).max()),
                "virial": None if known.virial is None else float(known.virial[:3].sum() / 3),
                "volume": atoms.get_volume() if atoms.cell.rank == 3 else None,
                "step": None if link is None else link.step,
            }
        )
        if len(self._rows) == CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
            self._rows = []

    def close(self) -> None:
        """Write what is left and the footer."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()

    def said(self) -> dict[str, Any]:
        """The units."""
        return {"units": {name: units for name, (_, units) in COLUMNS.items() if units}, "missing_labels": "null"}
