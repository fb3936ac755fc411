"""An ase.db file: structures with a single-point calculator that holds the labels there are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from farfield.db.engine import Database
from farfield.db.export.config_types import config_type
from farfield.db.export.extxyz import Keys
from farfield.db.export.links import Link
from farfield.db.export.weights import Weighed
from farfield.db.query import Labelled

__all__ = ["AseWriter"]


class AseWriter:
    """One transaction for all rows: ASE commits each row by itself otherwise, thirty times slower."""

    def __init__(self, part: Path, keys: Keys, database: Database) -> None:
        from ase.db import connect

        self._database = connect(part, type="db", append=False)
        self._database.__enter__()
        self._open = True

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None:
        """Write one row; its key-value pairs are searchable in ase.db."""
        atoms = row.atoms()
        atoms.info.clear()
        pairs: dict[str, Any] = {"config_type": config_type(row.role), "calculation": f"key {row.calculation}"}
        if row.campaign is not None:
            pairs.update(campaign=f"name {row.campaign}", decision=row.decision, ordinal=row.ordinal)
        if row.part is not None:
            pairs["part"] = f"part {row.part}"
        if link is not None:
            pairs["step"] = link.step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it doubts values that look like numbers
            self._database.write(atoms, key_value_pairs=pairs)

    def close(self) -> None:
        """Commit."""
        if self._open:
            self._open = False
            self._database.__exit__(None, None, None)

    def said(self) -> dict[str, Any]:
        """The units, which are ASE's."""
        return {
            "units": {
                "energy": "eV, total; the functional whose gradient the forces are",
                "forces": "eV/Å, raw",
                "stress": "eV/Å^3, positive under tension",
            },
            "missing_labels": "a property that is absent was not computed",
        }
