"""The contract runs on every database there is: SQLite always, PostgreSQL where initdb and a driver are installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from postgres import served
from sqlalchemy import create_engine

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.oracles.observation import Observations, virial_from_stress

HOST = ("here", "boot-1", os.getpid(), 1.0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server of our own, on a socket in a temporary folder; skipped where there is none."""
    with served() as server:
        yield server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a record without rows: a file of its own, or the one PostgreSQL database, emptied after each test."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'record.db'}"
        return
    server = request.getfixturevalue("postgres")
    open_database(server, create=True).close()
    yield server
    engine = create_engine(server)
    names = ", ".join(schema.metadata.tables)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET lock_timeout = '60s'")
        connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
    engine.dispose()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An open, empty database."""
    with open_database(url, create=True) as opened:
        yield opened


@pytest.fixture
def record(database: Database) -> Record:
    return Record(database)


@pytest.fixture
def claims(database: Database) -> Claims:
    return Claims(database)


@pytest.fixture
def session(claims: Claims) -> int:
    """A worker's session."""
    return claims.open_session(*HOST)


@dataclass(frozen=True)
class Proposed:
    """A proposal, as the loop would make it."""

    ordinal: int
    atoms: Atoms
    kinds: tuple[str, ...] = ("E", "F", "V")
    role: str = "training"
    term: str = "core"
    rung: tuple[int, int, int] = (1, 1, 1)
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decided:
    """A decision, as the loop would make it."""

    number: int
    proposals: tuple[Proposed, ...]
    reason: str = "core residual dominates: verify on 1x1x1"
    inputs: tuple[str, ...] = ()
    seed: int = 7
    cost_model: dict[str, Any] = field(default_factory=lambda: {"model": "power", "exponent": 2.5})
    weights: dict[str, float] = field(default_factory=lambda: {"F": 1.0, "E": 5.0})
    summary: dict[str, Any] = field(default_factory=dict)
    state: bytes = b"state"


@pytest.fixture
def decide() -> Callable[..., Decided]:
    """Makes decision `number` with `count` distinct cells."""

    def make(number: int = 0, count: int = 2, seed: int = 0, **fields: Any) -> Decided:
        rng = np.random.default_rng([number, seed])
        cells = []
        for _ in range(count):
            cells.append(bulk("Cu", cubic=True))
            cells[-1].rattle(0.1, rng=rng)
        of_proposals = {k: fields.pop(k) for k in list(fields) if k in ("kinds", "role", "term", "rung", "meta")}
        return Decided(number, tuple(Proposed(i, a, **of_proposals) for i, a in enumerate(cells)), **fields)

    return make


@pytest.fixture
def campaign(record: Record) -> int:
    """A campaign of an oracle called emt."""
    return record.create_campaign("first", {"seed": 0}, {"adapter": "emt", "version": 1})


@pytest.fixture
def answer() -> Callable[..., Observations]:
    """Makes the answer to `kinds` for a cell of four atoms; another `shift`, other numbers."""

    def make(kinds: str = "EFV", shift: float = 0.0, **fields: Any) -> Observations:
        rng = np.random.default_rng(3)
        forces = rng.normal(size=(4, 3))
        values: dict[str, Any] = {
            "E": -3.7 + shift,
            "F": forces - forces.mean(axis=0) + shift * np.array([[1], [-1], [0], [0]]),
            "V": rng.normal(size=6) + shift,
        }
        return Observations({k: values[k] for k in kinds}, **fields)

    return make


@pytest.fixture
def emt_cells(record, claims, campaign, session, decide):
    """Answers of EMT itself to three cells: all kinds, E and F, V alone; the cells."""
    decision = decide(0, 3, role="force constants")
    rng = np.random.default_rng(1)
    for p in decision.proposals:
        p.atoms.set_cell(p.atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    keys = record.store_decision(campaign, decision)
    for key, p, kinds in zip(keys, decision.proposals, ("EFV", "EF", "V"), strict=True):
        atoms = p.atoms.copy()
        atoms.calc = EMT()
        everything = {
            "E": atoms.get_potential_energy(),
            "F": atoms.get_forces(),
            "V": virial_from_stress(atoms.get_stress(), atoms.get_volume()),
        }
        attempt = claims.new_attempt(key, campaign, tuple(kinds))
        claims.claim(attempt, session)
        claims.finish(attempt, session, Observations({k: everything[k] for k in kinds}), 1.0)
    return [p.atoms for p in decision.proposals]
