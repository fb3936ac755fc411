"""Several real processes write at once, and one is killed in the middle: nothing is lost, doubled or halved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from processes import soon
from sqlalchemy import func, select, text

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import Database
from farfield.db.labels import result_values
from farfield.db.maintenance import check
from farfield.db.record import Record

WRITER = Path(__file__).with_name("writer.py")
WRITERS = 8
KILLS = 50
"""How often two writers are killed."""
STILL_SECONDS = 200
"""Longer than any wait of a writer for the database, which ends in an error."""


@pytest.fixture
def writer(url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a writing process."""
    started: list[subprocess.Popen[str]] = []

    def start(verb: str, *rest: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-X", "faulthandler", "-W", "error", str(WRITER), verb, url, *map(str, rest)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ready(processes: list[subprocess.Popen[str]]) -> None:
    """Wait for processes to be ready."""
    for process in processes:
        assert said(process) == "ready\n"


def go(processes: list[subprocess.Popen[str]]) -> None:
    """Let processes that are ready begin at the same moment."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a process that goes on. None may end by itself, nor stand still: then it says where it stood."""
    assert process.stdout is not None
    # an alarm, not a timer: that would be a thread for each of thousands of lines
    before = signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGABRT))
    signal.alarm(STILL_SECONDS)
    try:
        line = process.stdout.readline()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert line, process.communicate()[1]
    return line


def results(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    """The lines each printed in the end. None may have complained."""
    go(processes)
    out = [process.communicate() for process in processes]
    for stdout, stderr in out:
        assert stderr == "", stderr + stdout
    return [stdout.splitlines() for stdout, _ in out]


def test_attempts_go_to_one_process_and_labels_to_one_attempt(record, claims, campaign, decide, writer) -> None:
    """Eight processes answer the same 15 calculations, then share out 40 others. No lock errors, no double rows."""
    keys = record.store_decision(campaign, decide(0, 55))
    asked = ("E", "F", "V")
    same = [[claims.new_attempt(key, campaign, asked) for key in keys[:15]] for _ in range(WRITERS)]
    processes = [writer("race", *(mine if k % 2 else mine[::-1])) for k, mine in enumerate(same)]
    ready(processes)  # with their own attempts claimed
    shared = [claims.new_attempt(key, campaign, asked) for key in keys[15:]]
    lines = [line.split() for share in results(processes) for line in share]
    told = {int(line[0]): "".join(line[1:]) for line in lines}
    assert sorted(int(line[0]) for line in lines) == sorted(sum(same, shared))
    assert all(told[attempt] == "EFV" for attempt in shared)
    o, a = schema.observation.c, schema.attempt.c
    with record.database.read() as connection:
        labels = Counter(tuple(r) for r in connection.execute(select(o.calculation_id, o.kind)))
        states = Counter(connection.scalars(select(a.state)))
        owners: dict[int, str] = {}
        for attempt, kind in connection.execute(select(o.attempt_id, o.kind).order_by(o.id)):
            owners[attempt] = owners.get(attempt, "") + kind
    assert len(labels) == 3 * 55
    assert set(labels.values()) == {1}
    assert owners == {attempt: kinds for attempt, kinds in told.items() if kinds}
    assert states == {"finished": len(owners), "superseded": len(told) - len(owners)}
    assert record.missing(campaign, 0) == []
    assert record.cost(campaign).calls == len(told)


def test_kill_minus_nine_loses_nothing_that_was_told(
    record: Record, claims: Claims, campaign, decide, writer, answer
) -> None:
    """What the process had printed is there; whatever else is there is whole."""
    keys = record.store_decision(campaign, decide(0, 200))
    processes = [writer("work") for _ in range(2)]
    ready(processes)
    go(processes)
    lines = [said(process) for process in processes]
    time.sleep(0.03)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        lines += process.communicate()[0].splitlines()
    told = [int(line) for line in lines if line.strip().isdigit()]
    a, b, o = schema.attempt.c, schema.blob.c, schema.observation.c
    settled(record.database)
    with record.database.read() as connection:
        if record.database.dialect == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        rows = connection.execute(select(a.id, a.state, b.data).outerjoin(schema.blob, b.id == a.blob_id)).all()
        labels = dict(connection.execute(select(o.attempt_id, func.count()).group_by(o.attempt_id)).all())
    # two processes may have run the same calculation at once; then one answer is superseded
    answered = {r.id: result_values(bytes(r.data))[0] for r in rows if r.state in ("finished", "superseded")}
    finished = [r.id for r in rows if r.state == "finished"]
    assert set(told) <= set(answered)
    assert labels == dict.fromkeys(finished, 3)
    assert all(float(values["E"]) == attempt for attempt, values in answered.items())
    open_now = [r.id for r in rows if r.state == "running"]
    assert len(open_now) <= len(processes)
    assert sorted(claims.release_dead("here", "boot-1")) == sorted(open_now)
    mine = claims.open_session("here", "boot-1", os.getpid(), 1.0)
    assert len(record.missing(campaign, 0)) == len(keys) - len(finished)
    (key,) = record.store_decision(campaign, decide(1, 1))
    again = claims.new_attempt(key, campaign, ("E", "F", "V"))
    assert claims.claim(again, mine)
    assert claims.finish(again, mine, answer(), 1.0) == ("E", "F", "V")


def settled(database: Database) -> None:
    """Wait until the server has done, or undone, what processes that were killed have asked it last."""
    if database.dialect == "sqlite":
        return
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )

    def none_at_work() -> bool:
        with database.read() as connection:
            return connection.scalars(others).one() == 0

    assert soon(none_at_work)


def test_fifty_kills_leave_an_intact_database_with_every_label_that_was_told(
    record: Record, claims: Claims, campaign, decide, writer
) -> None:
    """A process that writes is killed at any moment, two at a time, again and again."""
    keys = record.store_decision(campaign, decide(0, 1500))
    least = 0
    nests = [writer("nest"), writer("nest")]
    ready(nests)
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for _ in range(KILLS):
        children = []
        for nest in nests:
            nest.stdin.write("go\n")
            nest.stdin.flush()
            while not (line := said(nest)).startswith("child"):  # what the one before it told
                lines.append(line)
            children.append(int(line.split()[1]))
        for nest in nests:  # some die while they open the database, most after a number of answers
            wanted = int(rng.integers(0, 8))
            least += wanted
            lines += [said(nest) for _ in range(wanted)]
        time.sleep(rng.uniform(0.0, 0.03))
        for child in children:
            os.kill(child, signal.SIGKILL)
    lines += [line for nest in nests for line in nest.communicate(timeout=30)[0].splitlines()]
    told = [int(line) for line in lines if line.strip().isdigit()]
    assert len(lines) >= least > KILLS
    assert len(told) > KILLS
    a, b, o = schema.attempt.c, schema.blob.c, schema.observation.c
    settled(record.database)
    with record.database.read() as connection:
        rows = connection.execute(select(a.id, a.state, b.data).outerjoin(schema.blob, b.id == a.blob_id)).all()
        labels = dict(connection.execute(select(o.attempt_id, func.count()).group_by(o.attempt_id)).all())
        twice = connection.execute(
            select(o.calculation_id, o.kind).group_by(o.calculation_id, o.kind).having(func.count() > 1)
        ).all()
    answered = {r.id: result_values(bytes(r.data))[0] for r in rows if r.state in ("finished", "superseded")}
    assert set(told) <= set(answered)
    assert all(float(values["E"]) == attempt for attempt, values in answered.items())
    assert twice == []
    assert labels == dict.fromkeys([r.id for r in rows if r.state == "finished"], 3)
    open_now = [r.id for r in rows if r.state == "running"]
    assert sorted(claims.release_dead("here", "boot-1")) == sorted(open_now)
    assert check(record.database).faults == []
    assert len(record.missing(campaign, 0)) == len(keys) - len(labels)


def test_readers_see_whole_decisions_while_another_writes(record: Record, campaign, decide, writer) -> None:
    record.store_decision(campaign, decide(0, 50))
    process = writer("work")
    ready([process])
    go([process])
    before = 50
    for _ in range(20):
        now = len(record.missing(campaign, 0))
        answers = record.answers(campaign, 0)
        assert now <= before
        assert all((a.energy is None) == (a.forces is None) == (a.virial is None) for a in answers)
        before = now
    process.kill()
