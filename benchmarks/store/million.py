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
from farfield.db.engine import Database, open_database

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
    "fmax between",
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


def fill(database: Database, count: int, say: Callable[[str], None]) -> dict[str, float]:
    """Insert `count` frames and a campaign that asked for them in rounds of a thousand."""
    before = time.perf_counter()
    row, done = source(database), 0
    for total in store_labelled(database, row, _varied(count)):
        done = total.new
        if done % 20_000 == 0:
            say(f"{done} frames, {time.perf_counter() - before:.0f} s")
    inserted = time.perf_counter() - before
    _campaign(database, count)
    return {"microseconds per frame, with making them": 1e6 * inserted / count}


def _varied(count: int) -> Iterator[Frame]:
    for i, frame in enumerate(frames(count)):
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
    from farfield.db.record import Record

    Record(database).roll_up(campaign)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def warm(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first and of the best of three later calls."""
    took = []
    for _ in range(4):
        before = time.perf_counter()
        work()
        took.append(time.perf_counter() - before)
    return took[0], min(took[1:])


def answers(url: str) -> dict[str, tuple[float, float]]:
    """Seconds of each query's first page of 50, and of what a status reads; first call and warm."""
    from farfield.db.claims import Claims
    from farfield.db.query import select
    from farfield.db.record import Record

    out = {}
    with open_database(url, readonly=True) as database:
        for query in QUERIES:
            if query.endswith("between"):
                continue
            out[query or "everything"] = warm(lambda q=query: select(database, q, labelled=False).page(size=50))
        out["everything, after id 900000"] = warm(lambda: select(database, "").page(after=900_000, size=50))
        record = Record(database)
        stored = record.campaign(NAME)
        if stored is None:
            raise RuntimeError("the campaign is not there")

        def status() -> None:
            record.campaign(NAME)
            record.cost(stored.id)
            record.missing(stored.id, 0)
            Claims(database).leases(stored.id)
            record.events(stored.id, last=100)
            record.failure_messages(stored.id)

        out["status"] = warm(status)
    return out


def shell(url: str, *words: str) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of a command of the program on this database; the best of three."""
    best, peak = np.inf, 0.0
    for _ in range(3):
        command = [sys.executable, str(Path(__file__).with_name("peak.py")), *words, "--database", url]
        before = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        best = min(best, time.perf_counter() - before)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")
        peak = float(done.stderr.splitlines()[-1])
    return best, peak
