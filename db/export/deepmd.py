"""DeePMD npy: a folder of systems, each with frames of one composition and one set of labels.

A label that was not computed has no file in its system, so that nobody invents it. Atoms are sorted by species, which
keeps the order within one. The virial is DeePMD's, -dE/d(strain) in eV.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from farfield.db.engine import Database
from farfield.db.export.extxyz import Keys
from farfield.db.export.links import Link
from farfield.db.export.weights import Weighed
from farfield.db.labels import Array
from farfield.db.query import Labelled
from farfield.errors import RecordError
from farfield.oracles.observation import VOIGT

__all__ = ["DeepmdWriter"]

FRAMES = 500
"""Frames of a set, and most frames of a system in memory."""


class _System:
    def __init__(self, folder: Path, numbers: Array, periodic: bool) -> None:
        self.folder, self.sets = folder, 0
        self.frames: list[dict[str, Array]] = []
        folder.mkdir(parents=True)
        species = sorted(set(numbers.tolist()))
        types = [species.index(z) for z in numbers.tolist()]
        (folder / "type.raw").write_text("".join(f"{t}\n" for t in types), encoding="ascii")
        (folder / "type_map.raw").write_text(
            "".join(f"{chemical_symbols[int(z)]}\n" for z in species), encoding="ascii"
        )
        if not periodic:
            (folder / "nopbc").touch()

    def flush(self) -> None:
        if not self.frames:
            return
        place = self.folder / f"set.{self.sets:03d}"
        place.mkdir()
        for name in self.frames[0]:
            np.save(place / f"{name}.npy", np.array([f[name] for f in self.frames], "<f8"))
        self.sets, self.frames = self.sets + 1, []


class DeepmdWriter:
    """Systems are told apart by composition, periodicity and labels."""

    def __init__(self, part: Path, keys: Keys, database: Database) -> None:
        self._folder = part
        part.mkdir()
        self._systems: dict[tuple[Any, ...], _System] = {}

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None:
        """Take a frame in. Raises RecordError for cells that are periodic in some directions only."""
        atoms, known = row.structure_atoms(), row.labels
        if len(set(atoms.pbc.tolist())) > 1:
            raise RecordError(
                f"DeePMD has no cells that are periodic in some directions only ({row.calculation[:12]}); "
                "leave them out, or take another format"
            )
        order = np.argsort(atoms.numbers, kind="stable")
        numbers, kinds = atoms.numbers[order], row.labels.kinds
        periodic = bool(atoms.pbc.all())
        key = (numbers.tobytes(), periodic, kinds)
        if key not in self._systems:
            name = f"{row.formula}{'' if periodic else '-nopbc'}-{''.join(kinds)}"
            self._systems[key] = _System(self._folder / name, numbers, periodic)
        frame: dict[str, Array] = {"coord": atoms.positions[order].ravel(), "box": _box(atoms).ravel()}
        if known.energy is not None:
            frame["energy"] = np.array(known.energy)
        if known.forces is not None:
            frame["force"] = known.forces[order].ravel()
        if known.virial is not None:
            virial = np.zeros((3, 3))
            for value, (i, j) in zip(known.virial, VOIGT, strict=True):
                virial[i, j] = virial[j, i] = value
            frame["virial"] = virial.ravel()
        system = self._systems[key]
        system.frames.append(frame)
        if len(system.frames) == FRAMES:
            system.flush()

    def close(self) -> None:
        """Write the last sets."""
        for system in self._systems.values():
            system.flush()

    def said(self) -> dict[str, Any]:
        """The systems and units."""
        return {
            "systems": sorted(s.folder.name for s in self._systems.values()),
            "units": {
                "coord": "Å",
                "box": "Å",
                "energy": "eV, total",
                "force": "eV/Å, raw",
                "virial": "eV, -dE/d(strain)",
            },
            "missing_labels": "a file that is absent was not computed",
        }


def _box(atoms: Atoms) -> Array:
    return np.asarray(atoms.cell.complete().array, float)
