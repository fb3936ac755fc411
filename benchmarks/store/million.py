"""A database of a million labelled cells: what lists, queries, status, datasets and exports take then."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Table, func, insert, text
from sqlalchemy import select as sql_select
from workload import frames, source

from farfield.db import schema
from farfield.db.blobs import store_blob
from farfield.db.bulk import Frame, store_labelled
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.query import select
from farfield.db.record import Record
from farfield.oracles.packing import pack

NAME = "million"
DISTINCT = 20_000
"""Cells with structures and labels of their own; the others are copies of them."""
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
    """`DISTINCT` cells and a campaign that asked for them, then copies of all these rows under keys of their own and
    with other values, until there are `count`; what is there stays. Microseconds per copied cell."""
    base = min(DISTINCT, count)
    if Record(database).campaign(NAME) is None:
        for _ in store_labelled(database, source(database), _varied(base)):
            pass
        _campaign(database, base)
    with database.read() as connection:
        there: int = connection.scalar(text("SELECT count(*) FROM calculation")) or 0
        spans = {
            t.name: connection.scalar(sql_select(func.max(t.c.id)).where(t.c.id <= _most(t, base))) for t in COPIED
        }
    before = time.perf_counter()
    for turn in range(there // base, count // base):
        with database.write(relaxed=True) as connection:
            for table in COPIED:
                connection.execute(_copy(table, spans, turn, base))
        say(f"{(turn + 1) * base} cells, {time.perf_counter() - before:.0f} s")
    seconds = time.perf_counter() - before
    say("sequences, roll-up")
    if database.dialect == "postgresql":
        _server_upkeep(database)
    record = Record(database)
    stored = record.campaign(NAME)
    if stored is not None:
        record.roll_up(stored.id)
    return 1e6 * seconds / max(count - there, 1)


COPIED = (
    *(schema.blob, schema.structure, schema.calculation, schema.decision, schema.proposal, schema.attempt),
    schema.observation,
)
"""Tables whose rows are copied, each after those it names."""
NAMED = {"blob_id": "blob", "structure_id": "structure", "calculation_id": "calculation"}
NAMED |= {"decision_id": "decision", "proposal_id": "proposal", "attempt_id": "attempt"}


def _most(table: Table, base: int) -> int:
    """The last row id of a table before any copy: a cell has two blobs and three labels, the campaign two blobs."""
    return {"blob": 2 * base + 2, "observation": 3 * base}.get(table.name, base)


def _copy(table: Table, spans: dict[str, int], turn: int, base: int) -> Any:
    """The statement that copies the first rows of a table for the `turn`-th time."""
    values: dict[str, Any] = {}
    for column in table.columns:
        value: Any = column
        if column.name == "id":
            value = column + turn * spans[table.name]
        elif column.name in NAMED:
            value = column + turn * spans[NAMED[column.name]]
        elif column.name == "key":
            value = func.substr(column, 1, 56).concat(f"{turn:08x}")
        elif (table.name, column.name) == ("decision", "number"):
            value = column + turn * (base // ROUND)
        elif column.name == "value":
            value = column * (1 + 1e-6 * turn)
        values[column.name] = value
    rows = sql_select(*values.values()).where(table.c.id <= spans[table.name])
    return insert(table).from_select(list(values), rows)


def _server_upkeep(database: Database) -> None:
    """Sequences past the copies, and what the server's autovacuum does in its own time."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in COPIED:
            sequence = func.pg_get_serial_sequence(table.name, "id")
            connection.execute(sql_select(func.setval(sequence, sql_select(func.max(table.c.id)).scalar_subquery())))
        connection.exec_driver_sql("VACUUM ANALYZE")


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
        inputs, state = store_blob(connection, pack({"inputs": []})), store_blob(connection, b"state")
        values = {"name": NAME, "state": "drained", "config": {}, "oracle_id": oracle, "created": now}
        campaign = run(schema.campaign.insert().values(values).returning(schema.campaign.c.id)).scalar_one()
        fixed = {"reason": "core residual", "cost_model": {}, "weights": {}, "summary": {}, "seed": 0, "created": now}
        fixed |= {"campaign_id": campaign, "inputs_blob_id": inputs, "state_blob_id": state}
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
        words = (
            "UPDATE attempt SET campaign_id = :campaign, source_id = NULL, started = created, core_seconds = 10, "
            "proposal_id = (SELECT p.id FROM proposal p WHERE p.calculation_id = attempt.calculation_id) "
            "WHERE id % 10 > 0"
        )
        run(text(words), {"campaign": campaign})


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
        with database.read() as connection:
            last: int = connection.scalar(sql_select(func.max(schema.decision.c.number))) or 0

        def read() -> None:
            record.campaign(NAME)
            record.cost(campaign)
            record.missing(campaign, last)
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


def imports() -> float:
    """Wall seconds, the best of three, of a Python that imports numpy and SQLAlchemy and ends."""
    best = np.inf
    for _ in range(3):
        before = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import numpy, sqlalchemy"], check=True)
        best = min(best, time.perf_counter() - before)
    return float(best)
