"""A real run, steered and watched from outside through its database: pause, resume, stop, status, watch, log."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from slow_emt import campaign_file, started
from sqlalchemy import func, select
from typer.testing import CliRunner, Result

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.service.cli.app import app


def call(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FARFIELD_DATABASE", raising=False)
        result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


class Run:
    """A run of `farfield run` and where to ask after it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.file = campaign_file(folder, "steered", **options)
        self.place = ("--database", str(folder / "steered" / "campaign.db"), "--campaign", "steered")
        self.process = started(self.file)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(timeout=30)

    def starts(self) -> int:
        """How often a controller has said where its calls run."""
        return self.file.with_suffix(".txt").read_text(encoding="utf-8").count("; Dask's dashboard")

    def kinds(self) -> list[str]:
        """What has happened so far, in order."""
        lines = call(self.folder, "log", *self.place, "--json").stdout.splitlines()
        return [json.loads(line)["kind"] for line in lines]

    def open(self) -> int:
        """Calls that run or wait to."""
        url, a = f"sqlite:///{self.folder / 'steered' / 'campaign.db'}", schema.attempt.c
        with open_database(url, readonly=True) as database, database.read() as connection:
            return connection.scalars(select(func.count()).where(a.state.in_(schema.OPEN))).one()

    def status(self) -> dict[str, Any]:
        if not (self.folder / "steered" / "campaign.db").exists():
            return {"state": "not yet", "calls": 0, "running": 0}
        done = call(self.folder, "status", *self.place, "--json")
        return json.loads(done.stdout) if done.exit_code == 0 else {"state": "not yet", "calls": 0, "running": 0}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run(tmp_path) as run:
        yield run


def test_a_run_is_paused_watched_resumed_and_stopped_from_outside(run: Run) -> None:
    until(lambda: run.status()["calls"] >= 2)
    assert "paused" in call(run.folder, "pause", *run.place).stdout
    until(lambda: "paused" in run.kinds() and run.open() == 0)
    held = run.status()["calls"]
    time.sleep(1.5)  # five calls' time
    status = run.status()
    assert (status["calls"], status["state"]) == (held, "paused")
    assert run.process.poll() is None

    with urlopen(status["dashboard"].replace("/status", "/health"), timeout=10) as page:
        assert page.status == 200
    shown = call(run.folder, "status", *run.place).stdout
    assert status["dashboard"] in shown
    picture = call(run.folder, "watch", *run.place).stdout  # no terminal: one picture
    assert "steered: paused, run by process" in picture
    assert re.search(r"\d+ of \d+ settled", picture)

    done = json.loads(call(run.folder, "resume", *run.place, "--json").stdout)
    assert done["resumed"]
    assert done["controller"].startswith("process")
    until(lambda: run.status()["calls"] >= held + 2)
    assert json.loads(call(run.folder, "stop", *run.place, "--json").stdout) == {
        "campaign": "steered",
        "stopping": True,
    }
    assert run.process.wait(timeout=300) == 0
    assert run.status()["state"] == "drained"
    assert run.status()["dashboard"] is None

    assert [k for k in run.kinds() if k in ("pause", "paused", "resume", "went on", "drained")] == [
        "pause",
        "paused",
        "resume",
        "went on",
        "drained",
    ]
    logs = {p.name.split("-")[0]: p for p in sorted((run.folder / "steered" / "log").glob("*.jsonl"))}
    assert set(logs) == {"controller", "worker"}
    lines = [json.loads(line) for path in logs.values() for line in path.read_text(encoding="utf-8").splitlines()]
    assert all({"time", "level", "source", "message", "host", "pid"} <= set(line) for line in lines)
    assert {line["attempt"] for line in lines if line["message"] == "finished"} >= {1, 2}


def test_ctrl_c_after_a_stop_from_elsewhere_is_the_first(tmp_path: Path) -> None:
    """Whoever sits at the terminal does not know of the stop, and loses no call by it."""
    with Run(tmp_path, seconds=15.0) as run:
        until(lambda: run.status()["running"] >= 1)
        call(tmp_path, "stop", *run.place)
        assert run.status()["state"] == "stopping"
        until(lambda: "calls in flight finish" in call(tmp_path, "log", *run.place, "--kind", "stopping").stdout)
        assert run.status()["running"] >= 1, "the call was over before Ctrl-C"
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(timeout=300) == 0
        assert run.status()["state"] == "drained"
        assert not any(s.startswith("failed") for s in run.status()["by_state"])


def test_a_running_call_is_cancelled_in_its_worker_and_asked_anew(tmp_path: Path) -> None:
    """Long before it would have ended; and a controller that runs hears of the retry."""
    with Run(tmp_path, seconds=300.0, more="[database]\nheartbeat = 3\n") as run:
        until(lambda: run.status()["running"] == 2)
        with open_database(f"sqlite:///{tmp_path / 'steered' / 'campaign.db'}") as database:
            claims, stored = Claims(database), Record(database).campaign("steered")
            assert stored is not None
            lease, other = claims.leases(stored.id)
            query = f"key={lease.calculation}"
            assert call(tmp_path, "cancel", query, *run.place, "--yes").exit_code == 0
            until(lambda: claims.states([lease.attempt]) == {lease.attempt: "withdrawn"})
            assert run.status()["by_state"]["withdrawn"] == 1  # it had begun, so it is charged
            assert call(tmp_path, "retry", query, *run.place).exit_code == 0

            def anew() -> bool:
                """Whether it runs; else what runs in its place makes room."""
                now = [x.calculation for x in claims.leases(stored.id) if x.calculation != other.calculation]
                if lease.calculation not in now:
                    for key in now:
                        call(tmp_path, "cancel", f"key={key}", *run.place, "--yes")
                return lease.calculation in now

            until(anew)
        assert run.process.poll() is None


def test_a_pause_stays_through_a_restart(tmp_path: Path) -> None:
    with Run(tmp_path) as first:
        until(lambda: first.status()["calls"] >= 1)
        call(tmp_path, "pause", *first.place)
    said = call(tmp_path, "pause", *first.place)
    assert said.exit_code == 0
    before = first.status()["calls"]
    with Run(tmp_path) as second:
        until(lambda: second.starts() == 2)  # the status of before would do as well
        until(lambda: second.status()["state"] == "paused")
        until(lambda: second.status()["running"] == 0)  # a worker may outlive its controller for a moment
        time.sleep(1.5)
        now = second.status()
        assert now["state"] == "paused"
        assert now["calls"] <= before + 2  # those that ran when their controller died are charged meanwhile
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(timeout=300) == 0
        assert second.status()["state"] == "paused"
    with Run(tmp_path) as third:
        until(lambda: third.starts() == 3)
        assert third.status()["state"] == "paused"
        call(tmp_path, "resume", *third.place)
        assert third.process.wait(timeout=300) == 0
        assert third.status()["state"] == "converged"
    refused = call(tmp_path, "pause", *third.place)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "nothing to pause" in refused.stderr


@pytest.mark.parametrize("verb", [("pause",), ("resume",), ("log",), ("watch",), ("retry", "-f"), ("cancel", "-f")])
def test_a_verb_without_a_campaign_is_one_line(tmp_path: Path, verb: tuple[str, ...]) -> None:
    arguments = [*verb, "c.toml"] + (["natoms>1"] if len(verb) > 1 else [])
    done = call(tmp_path, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "farfield: no campaign file c.toml; make one with `farfield init`\n"
