"""Who runs a campaign: one process at a time, with the settings and the oracle that it was started with."""

from __future__ import annotations

import pytest
from bench import Bench, ListLoop, Noted, cells, decision
from sqlalchemy import update

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.record import Record
from farfield.errors import CampaignError
from farfield.service.runner import session as session_module
from farfield.service.runner.session import BEAT_SECONDS, LEASE_BEATS, Session


def test_a_second_controller_is_refused(bench: Bench) -> None:
    loop = ListLoop([decision(0, cells(5, 1))])
    bench.runner(loop).run()
    with bench.database() as database, Session(Claims(database)) as session:
        record = Record(database)
        stored = record.campaign("campaign")
        assert stored is not None
        assert record.lease_campaign(stored.id, session.id) is None
        with pytest.raises(CampaignError, match="already run by process"):
            bench.runner(ListLoop([])).run()
    assert bench.runner(ListLoop([decision(0, cells(5, 1))])).run().converged


@pytest.mark.parametrize("lives", [True, False])
def test_a_silent_controller_has_two_heartbeats_to_say_that_it_lives(bench: Bench, lives: bool) -> None:
    """The database may have been away, for its signs of life too."""
    bench.runner(ListLoop([])).run()
    with bench.database() as database, Session(Claims(database), beat=600.0) as session:
        claims, record, s = Claims(database), Record(database), schema.worker_session
        stored = record.campaign("campaign")
        assert stored is not None
        assert record.lease_campaign(stored.id, session.id) is None
        with database.write() as connection:
            connection.execute(update(s).where(s.c.id == session.id).values(beat=s.c.beat - 100.0))
        second = bench.runner(ListLoop([]), database={"heartbeat": 1.0})
        second.listener = second.diary.listener = told = Noted()
        if lives:
            told.then = lambda: claims.heartbeat(session.id)
            with pytest.raises(CampaignError, match="already run by process"):
                second.run()
        else:
            assert second.run().converged
        assert told.said[0][0] == "waiting"


def test_who_was_overtaken_leaves_the_campaign_as_it_is(bench: Bench) -> None:
    """Another took it while this host was suspended, and has ended since."""
    runner = bench.runner(ListLoop([decision(0, cells(5, 1))]))
    assert runner.run().converged
    with pytest.raises(CampaignError, match="taken over by another process"):
        runner.tenure.check()
    runner.tenure.interrupted("too late")
    with bench.database() as database:
        stored = Record(database).campaign("campaign")
    assert stored is not None
    assert stored.state == "converged"


def test_other_settings_are_refused_on_resume(bench: Bench) -> None:
    bench.runner(ListLoop([])).run()
    with pytest.raises(CampaignError, match=r"target\.size"):
        bench.runner(ListLoop([]), target={"size": 9}).run()


def test_another_version_of_the_oracle_is_refused_by_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.runner(ListLoop([])).run()
    runner = bench.runner(ListLoop([]))
    monkeypatch.setattr(runner, "fingerprint", "0" * 64)
    with pytest.raises(CampaignError, match="--accept-version"):
        runner.run()


@pytest.mark.parametrize("suspended", [True, False])
def test_a_controller_that_could_not_beat_itself_waits_for_signs_of_life(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, suspended: bool
) -> None:
    """Its host was suspended, or the database hung: all its own workers seem to have been silent meanwhile, by the
    database's clock."""
    runner = bench.runner(ListLoop([decision(0, cells(21, 1))]))
    assert runner.run().converged
    clocks = [1000.0, 1000.0]
    monkeypatch.setattr(session_module, "_clocks", lambda: tuple(clocks))

    def later(seconds: float, mono: float | None = None) -> None:
        clocks[0] += seconds
        clocks[1] += seconds if mono is None else mono

    with bench.database() as database, Session(Claims(database), beat=BEAT_SECONDS) as session:
        record, claims = Record(database), Claims(database)
        key = record.store_calculation(cells(22, 1)[0], runner.fingerprint)
        assert record.lease_campaign(runner.campaign, session.id) is None
        runner.tenure.session, runner._session = session.id, session
        attempt = claims.new_attempt(key, runner.campaign, ("E",))
        assert claims.claim(attempt, session.id)
        s = schema.worker_session

        def state() -> str:
            """After a look at the leases, by which our own workers have been silent for long."""
            with database.write() as connection:
                connection.execute(update(s).where(s.c.id == session.id).values(beat=s.c.beat - 100.0))
            runner._swept = 0.0
            runner._sweep()
            return claims.states([attempt])[attempt]

        def beats(count: int) -> None:
            for _ in range(count):
                later(BEAT_SECONDS)
                session.steady.beat()

        assert state() == "running"  # who lives has two beats' time from the start
        later(100.0, 0.0 if suspended else None)
        assert state() == "running"
        beats(LEASE_BEATS)
        assert state() == "running"  # a lease has not passed since the first that came through
        beats(2)
        assert state() == "failed"
