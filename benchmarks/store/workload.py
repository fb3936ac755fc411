"""The workload: 54-atom cells of bcc W with atoms displaced at random, and an energy, forces and a virial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from sqlalchemy import insert

from farfield.db import schema
from farfield.db.bulk import Frame
from farfield.db.calculations import store_oracle
from farfield.db.engine import Database
from farfield.db.identity import structure_key

PAYLOAD = 54 * (3 * 8 + 3 * 8 + 4) + 9 * 8 + 6 * 8 + 8
"""Bytes of a cell: positions, forces, species as int32, lattice, virial, energy."""
HOST = bulk("W", cubic=True) * (3, 3, 3)
NAMES = ("trial.db", "trial.db-wal", "trial.db-shm", "trial.db-journal", "trial.db.lock")


def frames(count: int, first: int = 0) -> Iterator[Frame]:
    """Frames `first` to `first + count`, the same for the same numbers."""
    for i in range(first, first + count):
        rng = np.random.default_rng(i)
        noise = rng.normal(size=(2, 54, 3))
        atoms = Atoms(HOST.numbers, HOST.positions + 0.05 * noise[0], cell=HOST.cell, pbc=True)
        yield Frame(atoms, float(rng.normal()), noise[1], rng.normal(size=6))


def labelled_atoms(frame: Frame) -> Atoms:
    """The frame as ASE knows it."""
    atoms = frame.atoms.copy()
    stress = -frame.virial / atoms.get_volume()
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces, stress=stress)
    return atoms


def source(database: Database) -> int:
    """An import to insert frames under; its row."""
    made_up = {"name": "frames", "sha256": structure_key(HOST), "content": {}, "created": 0.0}
    with database.write() as connection:
        oracle = store_oracle(connection, {"adapter": "benchmark"})
        statement = insert(schema.source).values(oracle_id=oracle, **made_up).returning(schema.source.c.id)
        return int(connection.scalars(statement).one())


def fresh(folder: Path) -> Path:
    """A file name in `folder` where nothing is."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
    return folder / NAMES[0]
