"""An ase.db file: structures with a single-point calculator that holds the labels there are.

The virial (eV, -dE/d(strain), xx yy zz yz xz xy) is in the row's data, since ASE holds only the stress; so are moments
of three components, which ASE writes but cannot read back.
"""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path
from typing import Any

from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.core import now
from ase.db.row import AtomsRow

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

        self._database = connect(part, type="db", append=False, use_lock_file=False)
        try:
            self._database.__enter__()
        except sqlite3.OperationalError as fault:
            raise OSError(str(fault)) from fault
        self._open = True

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None:
        """Write one row; its key-value pairs are searchable in ase.db."""
        stored, data = _row(row)
        pairs: dict[str, Any] = {"config_type": config_type(row.role), "calculation": f"key {row.calculation}"}
        if row.campaign is not None:
            pairs.update(campaign=f"name {row.campaign}", decision=row.decision, ordinal=row.ordinal)
        if row.part is not None:
            pairs["part"] = f"part {row.part}"
        if link is not None:
            pairs["step"] = link.step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it doubts values that look like numbers
            try:
                self._database.write(stored, key_value_pairs=pairs, data=data)
            except sqlite3.OperationalError as fault:  # the disk is full, say
                raise OSError(str(fault)) from fault

    def close(self) -> None:
        """Commit."""
        if self._open:
            self._open = False
            try:
                self._database.__exit__(None, None, None)
            except sqlite3.OperationalError as fault:
                raise OSError(str(fault)) from fault

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


def _row(row: Labelled) -> tuple[Any, dict[str, Any]]:
    """The row as ASE stores it, and its data."""
    atoms, known = row.structure_atoms(), row.labels
    atoms.info.clear()
    data: dict[str, Any] = {}
    results: dict[str, Any] = {}
    if atoms.has("initial_magmoms") and atoms.get_initial_magnetic_moments().ndim > 1:
        data["initial_magmoms"] = atoms.get_initial_magnetic_moments()
        del atoms.arrays["initial_magmoms"]
    if known.energy is not None:
        results.update(energy=known.energy, free_energy=known.energy)
    if known.forces is not None:
        results["forces"] = known.forces
    if known.virial is not None:
        data["virial"] = known.virial
        if atoms.cell.rank == 3:
            results["stress"] = -known.virial / atoms.get_volume()
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    stored: Any = AtomsRow(atoms)
    # else ASE draws a number and writes the name of whoever runs it
    stored.unique_id, stored.user, stored.ctime = row.calculation[:32], "farfield", now()
    return stored, data
