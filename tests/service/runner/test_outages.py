"""What a controller makes of a database that does not come back."""

from __future__ import annotations

from typing import Any

import pytest
from bench import Bench, ListLoop, Noted
from postgres import Server
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from tiny import until

from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.errors import CampaignInterrupted
from farfield.service.runner.outages import await_database
from farfield.service.runner.session import Session

MINUTES = 0.05


def asked(database: Database) -> list[str]:
    return Record(database).campaigns()


def test_a_database_that_stays_away_ends_the_run_with_nothing_wrong_in_its_file(server: Server) -> None:
    with open_database(server.url, create=True) as database:
        server.stop("immediate")
        told = Noted()
        try:
            with pytest.raises(DBAPIError) as fault:
                asked(database)
            with pytest.raises(CampaignInterrupted, match=f"away for {MINUTES:g} min .*goes on when it is back"):
                await_database(fault.value, MINUTES, told, lambda _: asked(database))
        finally:
            server.start()
        assert [kind for kind, _ in told.said] == ["database"]
        assert asked(database) == []


def test_a_fault_that_does_not_pass_is_no_outage() -> None:
    wrong = IntegrityError("insert", {}, Exception("twice"))
    with pytest.raises(IntegrityError):
        await_database(wrong, MINUTES, Noted(), lambda _: None)


def test_a_session_knows_that_its_heartbeats_do_not_come_through(server: Server) -> None:
    """Where calls are long nothing else asks the database for hours."""
    with open_database(server.url, create=True) as database, Session(Claims(database), beat=0.2) as session:
        assert session.missed is None
        server.stop("immediate")
        try:
            assert until(lambda: session.missed is not None)
        finally:
            server.start()
        assert until(lambda: session.missed is None)
        assert until(lambda: session.heard() > 0)


def test_a_database_that_takes_no_heartbeats_is_told_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = bench.runner(ListLoop([]))
    assert runner.run().converged
    runner.listener = runner.diary.listener = told = Noted()
    monkeypatch.setattr(runner.tenure, "check", lambda: None)  # it has let go of the campaign
    for missed in (None, "disk is full", "disk is full", None, None):
        runner._session.missed, runner._swept = missed, -1e9
        runner._sweep()
    assert told.said == [
        ("database", "cannot be written to (disk is full); answers wait until it can"),
        ("database", "can be written to again; before: disk is full"),
    ]


def test_what_the_cluster_says_outlasts_an_outage_of_the_database(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = bench.runner(ListLoop([]))
    assert runner.run().converged
    saying = iter([["first", "second"], ["third"]])
    monkeypatch.setattr(runner.cluster, "tend", lambda: next(saying))
    monkeypatch.setattr(runner.tenure, "check", lambda: None)
    event, faults = runner.record.event, [OperationalError("insert", {}, Exception("gone"))]

    def away_at_first(*args: Any) -> None:
        if faults:
            raise faults.pop()
        event(*args)

    monkeypatch.setattr(runner.record, "event", away_at_first)
    runner._swept = -1e9
    with pytest.raises(OperationalError):
        runner._sweep()
    runner._swept = -1e9
    runner._sweep()
    assert [e.message for e in runner.record.events(runner.campaign, "cluster")] == ["first", "second", "third"]
