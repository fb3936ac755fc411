"""A database of a million labelled cells: what lists, queries, status, datasets and exports take then."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text
from workload import frames, source

from farfield.db import schema
from farfield.db.bulk import Frame, store_labelled
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.query import select
from farfield.db.record import Record

NAME = "million"
ROUND = 1000
"""Calculations of a decision."""
OTHER = 50
"""One frame in so many has an atom less."""
QUERIES = (
    "",
    "kind=E",
    "natoms=53",
    "natoms<54 and energy>3.5",
    "energy>4.2",
    "fmax>5.2",
    "fmax<1.9 and natoms=54",
    "virial>2.6",
    "formula=W53",
    "campaign=million and decision=700",
    "role=verification",
    "role=verification and size>=4",
    "size=5",
    "key=0123",
    "time>2026-01-01",
    "age<1h and W>=54",
    "failed",
    "running",
    "imported",
    "not labelled",
    "id>990000",
    "dataset=none",
)


def fill(database: Database, count: int, say: Callable[[str], None]) -> float:
    """Insert `count` frames and a campaign that asked for them in rounds of a thousand; what is there stays.

    Microseconds per frame of those inserted now, with the making of them.
    """
    with database.read() as connection:
        there: int = connection.scalar(text("SELECT count(*) FROM calculation")) or 0
        row = connection.scalar(text("SELECT min(id) FROM source"))
    before = time.perf_counter()
    for total in store_labelled(database, row or source(database), _varied(there, count)):
        if (there + total.new) % 20_000 == 0:
            say(f"{there + total.new} frames, {time.perf_counter() - before:.0f} s")
    inserted = time.perf_counter() - before
    say("the campaign")
    if Record(database).campaign(NAME) is None:
        _campaign(database, count)
    return 1e6 * inserted / max(count - there, 1)


def _varied(first: int, count: int) -> Iterator[Frame]:
    for i, frame in enumerate(frames(count - first, first), first):
        if i % OTHER:
            yield frame
            continue
        atoms = frame.atoms[1:]
        yield Frame(atoms, frame.energy, frame.forces[1:], frame.virial)


def _campaign(database: Database, count: int) -> None:
    """A campaign, its decisions and proposals, straight into the tables: their making is not what is measured."""
    rounds = (count + ROUND - 1) // ROUND
    now = time.time()
    with database.write(relaxed=True) as connection:
        run = connection.execute
        oracle = run(text("SELECT min(id) FROM oracle")).scalar_one()
        blob = run(text("SELECT min(id) FROM blob")).scalar_one()
        values = {"name": NAME, "state": "drained", "config": {}, "oracle_id": oracle, "created": now}
        campaign = run(schema.campaign.insert().values(values).returning(schema.campaign.c.id)).scalar_one()
        fixed = {"reason": "core residual", "cost_model": {}, "weights": {}, "summary": {}, "seed": 0, "created": now}
        fixed |= {"campaign_id": campaign, "inputs_blob_id": blob, "state_blob_id": blob}
        run(schema.decision.insert(), [{**fixed, "number": n} for n in range(rounds)])
        run(
            text(
                "INSERT INTO proposal (decision_id, ordinal, calculation_id, kinds, role, term, n1, n2, n3, meta) "
                "SELECT d.id, c.id % :round, c.id, 'E,F,V', "
                "CASE WHEN c.id % 1000 = 0 THEN 'verification' ELSE 'training' END, 'core', "
                "2 + c.id % 3, 3 + c.id % 3, 3 + c.id % 3, '{}' "
                "FROM calculation c JOIN decision d ON d.number = (c.id - 1) / :round ORDER BY c.id"
            ),
            {"round": ROUND},
        )
        proposed = "(SELECT p.id FROM proposal p WHERE p.calculation_id = attempt.calculation_id)"
        words = (
            "UPDATE attempt SET campaign_id = :campaign, source_id = NULL, started = created, core_seconds = 10, "
            f"proposal_id = {proposed} WHERE id % 10 > 0"
        )
        run(text(words), {"campaign": campaign})
    Record(database).roll_up(campaign)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def warm(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first call and the median of five later ones."""
    took = []
    for _ in range(6):
        before = time.perf_counter()
        work()
        took.append(time.perf_counter() - before)
    return took[0], float(np.median(took[1:]))


def answers(url: str) -> dict[str, tuple[float, float]]:
    """Seconds of each query's first page of 50, and of one far inside; first call and warm."""
    out = {}
    with open_database(url, readonly=True) as database:
        for query in QUERIES:
            out[query or "everything"] = warm(lambda q=query: select(database, q, labelled=False).page(size=50))
        out["labelled, after id 900000"] = warm(lambda: select(database, "").page(after=900_000, size=50))
    return out


def status(url: str) -> tuple[float, float]:
    """Seconds of all that a status reads; first call and warm."""
    with open_database(url, readonly=True) as database:
        record, claims = Record(database), Claims(database)
        stored = record.campaign(NAME)
        if stored is None:
            raise RuntimeError("the campaign is not there")
        campaign = stored.id

        def read() -> None:
            record.campaign(NAME)
            record.cost(campaign)
            record.missing(campaign, 0)
            claims.leases(campaign)
            record.events(campaign, last=100)
            record.failure_messages(campaign)

        return warm(read)


def shell(url: str, *words: str, repeats: int = 1) -> tuple[float, float]:
    """Wall seconds (the best of `repeats`) and peak memory in MB of a command of the program on this database."""
    best, peak = np.inf, 0.0
    for _ in range(repeats):
        command = [sys.executable, str(Path(__file__).with_name("peak.py")), *words, "--database", url]
        before = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        best = min(best, time.perf_counter() - before)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")
        peak = float(done.stderr.splitlines()[-1])
    return best, peak
