"""PostgreSQL is restarted under processes that write: that costs retries, not data (decisions A7)."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Server, served
from sqlalchemy import func, select

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.labels import result_values
from farfield.db.maintenance import check
from farfield.db.record import Record

WRITER = Path(__file__).with_name("writer.py")
WRITERS = 4
BETWEEN = 10
"""Answers that each writer tells of between two restarts."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own, since it goes down."""
    with served() as server:
        yield server


def test_restarts_cost_retries_and_no_data(server: Server, decide) -> None:
    with open_database(server.url, create=True) as database:
        record = Record(database)
        campaign = record.create_campaign("first", {"seed": 0}, {"adapter": "emt", "version": 1})
        keys = record.store_decision(campaign, decide(0, 2000))
    command = [sys.executable, "-W", "error", str(WRITER), "patient", server.url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen(command, **pipes) for _ in range(WRITERS)]
    lines: list[str] = []
    try:
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for mode in ("fast", "immediate", "fast", "immediate"):
            for writer in writers:
                lines += [writer.stdout.readline() for _ in range(BETWEEN)]
            server.restart(mode)  # immediate: a crash that recovers from the log
        for writer in writers:  # all go on, without anybody's help
            lines += [writer.stdout.readline() for _ in range(BETWEEN)]
    finally:
        for writer in writers:
            writer.kill()
        lines += [line for writer in writers for line in writer.communicate()[0].splitlines()]
    words = [line.split() for line in lines]
    told = {int(w[1]) for w in words if w[:1] == ["told"] and len(w) == 2}
    assert len(told) > WRITERS * BETWEEN
    assert sum(w[:1] == ["again"] for w in words) > 0  # a restart was noticed
    a, b, o = schema.attempt.c, schema.blob.c, schema.observation.c
    with open_database(server.url) as database:
        with database.read() as connection:
            rows = connection.execute(select(a.id, a.state, b.data).outerjoin(schema.blob, b.id == a.blob_id)).all()
            labels = dict(connection.execute(select(o.attempt_id, func.count()).group_by(o.attempt_id)).all())
            kinds = Counter(tuple(r) for r in connection.execute(select(o.calculation_id, o.kind)))
        answered = {r.id: result_values(bytes(r.data))[0] for r in rows if r.state in ("finished", "superseded")}
        assert told <= set(answered)
        assert all(float(values["E"]) == attempt for attempt, values in answered.items())
        assert set(kinds.values()) == {1}
        assert labels == dict.fromkeys([r.id for r in rows if r.state == "finished"], 3)
        assert check(database).faults == []
        record = Record(database)
        assert len(record.missing(campaign, 0)) == len(keys) - len(labels)
        running = {r.id for r in rows if r.state == "running"}
        assert set(Claims(database).release_dead("here", "boot-1")) == running
