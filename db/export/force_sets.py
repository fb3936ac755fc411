"""phonopy's FORCE_SETS for the displaced cells of force-constant columns: a folder for each undisplaced cell.

Cells are taken to be of one group when they are equal but for one displaced atom. Beside FORCE_SETS lie POSCAR and
`supercell.json`, the undisplaced supercell itself; phonopy takes it as unit cell with a supercell matrix of ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write as write_atoms
from sqlalchemy import select

from farfield.db import schema
from farfield.db.blobs import load_blob
from farfield.db.engine import Database
from farfield.db.export.extxyz import Keys
from farfield.db.export.links import Link
from farfield.db.export.weights import Weighed
from farfield.db.identity import structure_atoms
from farfield.db.labels import Array
from farfield.db.query import Labelled
from farfield.errors import RecordError

__all__ = ["PhonopyWriter"]


class PhonopyWriter:
    """Keeps the displaced cells in memory by undisplaced cell: they are few."""

    def __init__(self, part: Path, keys: Keys, database: Database) -> None:
        self._folder, self._database = part, database
        part.mkdir()
        self._hosts: dict[str, Atoms] = {}
        self._sets: dict[str, list[tuple[int, Array, Array]]] = {}

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None:
        """Take a displaced cell in. Raises RecordError for another one."""
        if link is None or row.labels.forces is None:
            raise RecordError(f"{row.calculation[:12]} is no displaced cell with forces; select kind=FC")
        key, host = self._host(link.column)
        atoms = row.structure_atoms()
        moved = atoms.positions - host.positions
        moved -= np.round(moved @ np.linalg.inv(host.cell.array)) @ host.cell.array
        site = int(np.argmax(np.linalg.norm(moved, axis=1)))
        self._sets.setdefault(key, []).append((site, moved[site], row.labels.forces))

    def _host(self, column: int) -> tuple[str, Atoms]:
        o, c, s = schema.observation.c, schema.calculation.c, schema.structure.c
        with self._database.read() as connection:
            row = connection.execute(
                select(s.key, s.blob_id)
                .join(schema.calculation, c.structure_id == s.id)
                .join(schema.observation, o.calculation_id == c.id)
                .where(o.id == column)
            ).one()
            if row.key not in self._hosts:
                self._hosts[row.key] = structure_atoms(load_blob(connection, row.blob_id))
        return row.key, self._hosts[row.key]

    def close(self) -> None:
        """Write the folders."""
        for key, sets in self._sets.items():
            host = self._hosts[key]
            place = self._folder / f"{host.get_chemical_formula()}-{key[:12]}"
            place.mkdir(exist_ok=True)
            lines = [f"{len(host)}", f"{len(sets)}", ""]
            for site, moved, forces in sets:
                lines += [f"{site + 1}", _line(moved), *(_line(f) for f in forces), ""]
            (place / "FORCE_SETS").write_text("\n".join(lines) + "\n", encoding="ascii")
            write_atoms(place / "POSCAR", host, format="vasp", direct=True, sort=False)
            content = {
                "cell": host.cell.tolist(),
                "numbers": host.numbers.tolist(),
                "positions": host.positions.tolist(),
            }
            (place / "supercell.json").write_text(json.dumps(content) + "\n", encoding="ascii")

    def said(self) -> dict[str, Any]:
        """The units."""
        return {
            "units": {"displacements": "Å", "forces": "eV/Å, raw"},
            "displacements": sum(len(s) for s in self._sets.values()),
        }


def _line(numbers: Array) -> str:
    return " ".join(f"{x:24.17g}" for x in numbers)
