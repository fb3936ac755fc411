"""The diary: filters, pages, and nothing lost or doubled between two pages."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.service.cli.app import app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record with a diary of 25 lines."""
    path = tmp_path / "record.db"
    with open_database(f"sqlite:///{path}", create=True) as database:
        record = Record(database)
        campaign = record.create_campaign("first", {}, {"adapter": "emt"})
        for k in range(25):
            record.event(campaign, "worker lost" if k % 5 == 0 else "suspect", f"line {k}, 100%_sure", {"n": k})
    return path


def log(path: Path, *arguments: str) -> list[dict]:
    done = CliRunner().invoke(app, ["log", "--database", str(path), "--json", *arguments])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_pages_join_without_gap_or_overlap(path: Path) -> None:
    everything = log(path, "-n", "100")
    assert [x["data"]["n"] for x in everything] == list(range(25))
    pages, after = [], 0
    while page := log(path, "-n", "7", "--after", str(after)):
        pages += page
        after = page[-1]["id"]
    assert pages == everything
    back, before = [], everything[-1]["id"] + 1
    while page := log(path, "-n", "7", "--before", str(before)):
        back = page + back
        before = page[0]["id"]
    assert back == everything


def test_filters_hold_together_and_take_texts_literally(path: Path) -> None:
    assert [x["data"]["n"] for x in log(path, "--kind", "worker lost")] == [0, 5, 10, 15, 20]
    assert [x["data"]["n"] for x in log(path, "--kind", "worker lost", "--contains", "LINE 1")] == [10, 15]
    assert len(log(path, "--contains", "100%_")) == 25
    assert log(path, "--contains", "1_0") == []
    assert len(log(path, "--since", "1h")) == 25
    assert log(path, "--since", "2999-01-01") == []
    done = CliRunner().invoke(app, ["log", "--database", str(path), "--kinds", "--json"])
    assert json.loads(done.stdout) == {"suspect": 20, "worker lost": 5}


def test_a_time_that_is_none_is_one_line(path: Path) -> None:
    done = CliRunner().invoke(app, ["log", "--database", str(path), "--since", "yesterday"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--since 'yesterday'" in done.stderr


def test_following_prints_what_comes(path: Path) -> None:
    command = [sys.executable, "-m", "farfield", "log", "--database", str(path), "--follow", "--json", "-n", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        stop = threading.Timer(300, process.kill)  # where a line does not come
        stop.start()
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline())["data"]["n"] for _ in range(2)]
        with open_database(f"sqlite:///{path}") as database:
            for k in (25, 26, 27):
                Record(database).event(1, "suspect", f"line {k}", {"n": k})
                time.sleep(0.01)
        seen += [json.loads(process.stdout.readline())["data"]["n"] for _ in range(3)]
        process.terminate()
        stop.cancel()
    assert seen == [23, 24, 25, 26, 27]
