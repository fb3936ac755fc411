"""Insertion and reading of the same cells: this program's database, ase.db, and the drivers alone."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from floors import raw_postgresql, raw_sqlite, rows_of
from workload import frames, fresh, labelled_atoms, source

from farfield.db.bulk import Frame, store_labelled
from farfield.db.engine import Database, open_database
from farfield.db.query import select

Row = dict[str, float]
TURNS = 8
"""Of those that are measured by turns: the machine may be busy in one of them."""


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of `work`: of this process on the CPU, or by another clock where it waits for a disk or a server."""
    gc.collect()
    before = clock()
    work()
    return clock() - before


def bulk(folder: Path, url: str | None, count: int) -> Row:
    """Microseconds per frame of a bulk insertion and of its floor, by turns; bytes per frame.

    On PostgreSQL wall time, since the server is another process."""
    some = list(frames(count))
    best = {"farfield": np.inf, "raw": np.inf}
    size = 0.0
    rounds = 2
    clock = time.process_time if url is None else time.perf_counter
    for _ in range(rounds):
        with _empty(folder, url) as database:
            row = source(database)
            best["farfield"] = min(best["farfield"], timed(lambda d=database, r=row: drain(d, r, some), clock))
            rows = rows_of(database)
        if url is None:
            with sqlite3.connect(folder / "trial.db") as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            size = (folder / "trial.db").stat().st_size / count
        with _empty(folder, url) as database:
            path = database.path
        seconds = raw_sqlite(path, rows, clock) if url is None else raw_postgresql(url, rows, clock)
        best["raw"] = min(best["raw"], seconds)
    return {"farfield": 1e6 * best["farfield"] / count, "raw": 1e6 * best["raw"] / count, "bytes": size}


def drain(database: Database, row: int, some: list[Frame]) -> None:
    """Insert all."""
    for _ in store_labelled(database, row, some):
        pass


def ase_bulk(path: Path, count: int) -> Row:
    """Microseconds per frame of ase.db in one transaction; bytes per frame. Leaves the file at `path`."""
    some = [labelled_atoms(f) for f in frames(count)]
    path.unlink(missing_ok=True)

    def work() -> None:
        with connect(path, type="db", append=False) as database:
            for atoms in some:
                database.write(atoms)

    seconds = timed(work)
    return {"ase": 1e6 * seconds / count, "bytes": path.stat().st_size / count}


def commits(folder: Path, count: int) -> Row:
    """Microseconds per frame with a transaction each: ase.db, ours with synchronous NORMAL and FULL; by turns, the best
    turn of each. "raw": the driver alone, NORMAL, with the same rows in the same tables."""
    names = {name: folder / name for name in ("NORMAL", "FULL", "ase")}
    best = dict.fromkeys(names, np.inf)
    for place in names.values():
        place.mkdir()
    with _empty(names["NORMAL"], None) as normal, _empty(names["FULL"], None) as full:
        full.relaxed = full.engine  # as results and decisions are written
        rows = {"NORMAL": source(normal), "FULL": source(full)}
        peer = connect(names["ase"] / "peer.db", type="db", append=False)
        for turn in range(TURNS):
            some = list(frames(count // TURNS, turn * count))
            atoms = [labelled_atoms(f) for f in some]
            ways: dict[str, Callable[[], Any]] = {
                "NORMAL": lambda some=some: [drain(normal, rows["NORMAL"], [f]) for f in some],
                "FULL": lambda some=some: [drain(full, rows["FULL"], [f]) for f in some],
                "ase": lambda atoms=atoms: [peer.write(a) for a in atoms],
            }
            for name, work in ways.items():
                best[name] = min(best[name], timed(work, time.perf_counter) / len(some))
        rows_of_normal = rows_of(normal)
    with _empty(names["NORMAL"], None) as database:
        path = database.path
    best["raw"] = raw_sqlite(path, rows_of_normal, time.perf_counter, 1) / len(rows_of_normal["attempt"])
    for place in names.values():
        shutil.rmtree(place)
    return {name: 1e6 * seconds for name, seconds in best.items()}


def selection(database: Database, peer: Path) -> Row:
    """Microseconds per structure of reading all: as `Atoms` and as arrays, ours and ase.db's."""
    count = select(database, "natoms=54").count()
    best: Row = {}
    ways: dict[str, Callable[[], Any]] = {
        "atoms": lambda: [a for a in select(database, "natoms=54").atoms()],
        "arrays": lambda: [b for b in select(database, "natoms=54").arrays()],
    }
    held = connect(peer)
    ways["ase"] = lambda: [row.toatoms() for row in held.select(natoms=54)]
    for _ in range(2):
        for name, work in ways.items():
            best[name] = min(best.get(name, np.inf), 1e6 * timed(work) / count)
    return best


def floor_atoms(count: int = 2000) -> float:
    """Microseconds of making `Atoms` with a single-point calculator from arrays in memory."""
    some = list(frames(count))
    plain = [(f.atoms.numbers, f.atoms.positions, f.atoms.cell.array, f.energy, f.forces, f.virial) for f in some]

    def work() -> None:
        for numbers, positions, cell, energy, forces, virial in plain:
            atoms = Atoms(numbers, positions, cell=cell, pbc=True)
            stress = -virial / atoms.get_volume()
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)

    return 1e6 * min(timed(work) for _ in range(3)) / count


def _empty(folder: Path, url: str | None) -> Database:
    if url is None:
        return open_database(f"sqlite:///{fresh(folder)}", create=True)
    database = open_database(url, create=True)
    with database.write() as connection:
        connection.exec_driver_sql("TRUNCATE source, oracle, blob, worker_session, campaign RESTART IDENTITY CASCADE")
    return database
