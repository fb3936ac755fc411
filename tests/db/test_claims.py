"""Laws of attempts: claimed once, accepted once, charged always (decisions A4 to A7)."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from farfield.db import labels, schema
from farfield.db.claims import Claims
from farfield.db.processes import process_start
from farfield.db.record import Record
from farfield.errors import RecordError


@pytest.fixture
def keys(record: Record, campaign: int, decide) -> list[str]:
    """Keys of the calculations of a stored decision."""
    return record.store_decision(campaign, decide(0, 3))


@pytest.fixture
def running(claims: Claims, keys: list[str], campaign: int, session: int):
    """Makes an attempt of the first calculation that `session` runs."""

    def make(kinds: str = "EFV", key: str = keys[0], by: int = session) -> int:
        attempt = claims.new_attempt(key, campaign, tuple(kinds))
        assert claims.claim(attempt, by)
        return attempt

    return make


def row(record: Record, attempt: int):
    with record.database.read() as connection:
        return connection.execute(select(schema.attempt).where(schema.attempt.c.id == attempt)).one()


def age(record: Record, session: int, seconds: float) -> None:
    """Let a session's last beat be older."""
    s = schema.worker_session
    with record.database.write() as connection:
        connection.execute(update(s).where(s.c.id == session).values(beat=s.c.beat - seconds))


def test_a_waiting_attempt_is_claimed_once(record, claims, keys, campaign, session) -> None:
    other = claims.open_session("here", "boot-1", 5, 1.0)
    attempt = claims.new_attempt(keys[0], campaign, ("F", "E"))
    assert row(record, attempt).kinds == "E,F"
    assert claims.claim(attempt, session)
    assert not claims.claim(attempt, other)
    assert claims.claim(attempt, session)  # the first word may have been lost with the connection
    assert not claims.claim(attempt, other)
    found = row(record, attempt)
    assert (found.state, found.session_id) == ("running", session)
    assert found.started >= found.created


def test_attempts_are_numbered_by_calculation(record, claims, keys, campaign) -> None:
    made = [claims.new_attempt(key, campaign, ("E",)) for key in (keys[0], keys[1], keys[0], keys[0])]
    assert [row(record, a).number for a in made] == [1, 1, 2, 3]


def test_what_is_withdrawn_is_not_run(record, claims, keys, campaign, session, running) -> None:
    attempt = claims.new_attempt(keys[0], campaign, ("E",))
    assert claims.withdraw(attempt)
    assert not claims.withdraw(attempt)
    assert not claims.claim(attempt, session)
    assert not claims.withdraw(running())
    assert row(record, attempt).core_seconds is None


def test_what_was_answered_meanwhile_is_not_bought(record, claims, keys, campaign, session, running, answer) -> None:
    waiting = claims.new_attempt(keys[0], campaign, ("E", "F"))
    claims.finish(running("EF"), session, answer("EF"), 1.0)
    assert not claims.claim(waiting, session)
    assert row(record, waiting).state == "withdrawn"
    assert claims.claim(claims.new_attempt(keys[0], campaign, ("E", "V")), session)


def test_finishing_is_idempotent(record, claims, session, running, answer) -> None:
    attempt = running()
    assert claims.finish(attempt, session, answer(settings={"mesh": [4, 4, 4]}), 2.5) == ("E", "F", "V")
    before = row(record, attempt)
    assert claims.finish(attempt, session, answer(shift=1.0), 99.0) == ("E", "F", "V")
    assert row(record, attempt) == before
    assert (before.state, before.core_seconds, before.settings) == ("finished", 2.5, {"mesh": [4, 4, 4]})
    assert before.difference is None


def test_the_second_answer_is_superseded_with_its_difference(record, claims, keys, session, running, answer) -> None:
    first, second = running(), running()
    claims.finish(first, session, answer(), 1.0)
    assert claims.finish(second, session, answer(shift=0.25), 4.0) == ()
    found = row(record, second)
    assert (found.state, found.core_seconds) == ("superseded", 4.0)
    assert found.difference == pytest.approx({"E": 0.25, "F": 0.25, "V": 0.25})
    assert record.labels(keys[0]).energy == -3.7


def test_a_finisher_is_accepted_for_what_is_missing_alone(record, claims, keys, session, running, answer) -> None:
    first, second = running("EF"), running("EFV")
    assert claims.finish(first, session, answer("EF"), 1.0) == ("E", "F")
    assert claims.finish(second, session, answer("EFV", shift=0.5), 1.0) == ("V",)
    assert row(record, second).state == "finished"
    assert row(record, second).difference == pytest.approx({"E": 0.5, "F": 0.5})
    known = record.labels(keys[0])
    assert known.energy == -3.7
    assert (known.virial == answer("V", shift=0.5).values["V"]).all()


def test_partial_answers_are_kept_and_unasked_ones_are_not(record, claims, keys, session, running, answer) -> None:
    assert claims.finish(running("EV"), session, answer("EF"), 1.0) == ("E",)
    assert record.labels(keys[0]).kinds == ("E",)
    assert record.missing(1, 0)[0].kinds == ("F", "V")
    with pytest.raises(RecordError, match="as a failure"):
        claims.finish(running("V"), session, answer("EF"), 1.0)


def test_the_database_itself_refuses_a_second_label(record, session, running, claims, answer) -> None:
    claims.finish(running(), session, answer(), 1.0)
    with record.database.read() as connection:
        label = connection.execute(select(schema.observation)).first()
    values = {k: v for k, v in label._mapping.items() if k != "id"}
    with pytest.raises(IntegrityError), record.database.write() as connection:
        connection.execute(insert(schema.observation).values(values))


@pytest.mark.parametrize("wrong", ["shape", "nan"])
def test_what_is_no_label_is_refused(claims, keys, record, session, running, answer, wrong: str) -> None:
    bad = answer()
    bad.values["F"] = np.zeros((3, 3)) if wrong == "shape" else np.full((4, 3), np.nan)
    with pytest.raises(RecordError, match="gate"):
        claims.finish(running(), session, bad, 1.0)
    assert record.labels(keys[0]).kinds == ()


def test_failures_keep_class_message_and_charge(record, claims, session, running) -> None:
    attempt = running()
    assert claims.fail(attempt, "timed out", "60 s are over", 60.0)
    found = row(record, attempt)
    assert (found.state, found.failure, found.message, found.core_seconds) == (
        "failed",
        "timed out",
        "60 s are over",
        60.0,
    )
    assert not claims.fail(attempt, "crashed", "again", 1.0)
    with pytest.raises(RecordError, match="worker lost"):
        claims.fail(attempt, "tired", "no such class", 1.0)


def test_whatever_a_program_says_can_be_recorded(record, claims, campaign, running) -> None:
    attempt = running()
    assert claims.fail(attempt, "crashed", "binary \0 and \udcff and " + "long " * 9999, 1.0)
    assert row(record, attempt).message.startswith("binary ? and ? and long")
    record.event(campaign, "crashed", "\0\udcff")
    assert record.events(campaign)[0].message == "??"
    record.set_campaign_state(campaign, "interrupted", "\0\udcff")
    stored = record.campaign("first")
    assert stored is not None
    assert stored.ending == "??"


def test_a_silent_session_loses_what_it_holds(record, claims, keys, campaign, running, session) -> None:
    alive = claims.open_session("here", "boot-1", 5, 1.0)
    lost, kept = running(), running(key=keys[1], by=alive)
    assert claims.expire() == []
    age(record, session, 100.0)
    assert claims.expire() == [lost]
    assert claims.expire() == []
    found = row(record, lost)
    assert (found.state, found.failure) == ("failed", "worker lost")
    assert found.core_seconds == 0.0  # it had not beaten since the call began
    assert row(record, kept).state == "running"
    assert record.missing(campaign, 0)[0].failures == {}  # its process went silent: no fault of the calculation


def test_nobody_is_silent_who_could_not_have_been_heard(record, claims, keys, running, session) -> None:
    """The database was away, or hung for all while the question was on its way."""
    lost = running()
    age(record, session, 100.0)
    assert claims.expire(60.0, heard=lambda: 60.0) == []
    answers = iter([61.0, 0.0])
    assert claims.expire(60.0, heard=lambda: next(answers)) == []
    assert next(answers, None) is None
    assert row(record, lost).state == "running"
    assert claims.expire(60.0, heard=lambda: 61.0) == [lost]


def test_each_campaign_sets_the_leases_of_its_own_calls(
    record, claims, keys, campaign, running, session, decide
) -> None:
    """Another that asks for signs of life every two seconds ends nothing of one that is content with fifteen."""
    hasty = record.create_campaign("hasty", {}, {"adapter": "emt", "version": 1})
    (theirs, *_) = record.store_decision(hasty, decide(0, 1, seed=5))
    worker = claims.open_session("here", "boot-1", 5, 1.0)
    calm = running()
    quick = claims.new_attempt(theirs, hasty, ("E",))
    assert claims.claim(quick, worker)
    for each in (session, worker):
        age(record, each, 20.0)
    assert claims.expire(8.0, hasty) == [quick]
    assert row(record, calm).state == "running"
    assert claims.holders([calm, quick]) == [session, worker]
    assert claims.alive([session, worker], 60.0) == [session, worker]
    assert claims.alive([session, worker], 8.0) == []
    age(record, session, 60.0)  # of this nobody has heard for as long as anybody may be silent
    assert claims.expire(8.0, hasty, lambda: 30.0) == []  # nor could anybody have been heard for so long
    assert claims.expire(8.0, hasty) == [calm]


def test_a_call_that_ends_its_worker_counts_against_the_calculation_however_it_was_found(
    record, claims, keys, campaign, running, session
) -> None:
    seen, swept = running(), running(key=keys[1])
    assert claims.lose(seen, "KilledWorker", blamed=True)
    assert claims.close_session(session) == [swept]  # a look at dead processes came first
    assert record.missing(campaign, 0)[1].failures == {}
    assert claims.lose(swept, "KilledWorker", blamed=True)
    assert [m.failures for m in record.missing(campaign, 0)[:2]] == [{"worker lost": 1}] * 2
    assert row(record, swept).state == "failed"
    assert not claims.lose(swept, "again")


@pytest.mark.parametrize("cores", [1, 8])
def test_a_lost_call_is_charged_up_to_the_last_beat(record, claims, keys, campaign, session, cores) -> None:
    attempt = claims.new_attempt(keys[0], campaign, ("E",), cores=cores)
    assert claims.claim(attempt, session)
    a = schema.attempt
    with record.database.write() as connection:
        connection.execute(update(a).values(started=a.c.started - 500.0))
    age(record, session, 100.0)
    claims.expire()
    assert row(record, attempt).core_seconds == pytest.approx(400.0 * cores, abs=30.0 * cores)
    assert record.cost(1).core_seconds == row(record, attempt).core_seconds


def test_a_beat_keeps_the_lease(record, claims, session, running) -> None:
    attempt = running()
    age(record, session, 100.0)
    assert claims.heartbeat(session) == []
    assert claims.expire() == []
    assert row(record, attempt).state == "running"


def test_a_late_answer_is_taken_when_no_other_was(record, claims, keys, campaign, session, running, answer) -> None:
    attempt = running()
    age(record, session, 100.0)
    claims.expire()
    assert claims.finish(attempt, session, answer(), 90.0) == ("E", "F", "V")
    found = row(record, attempt)
    assert (found.state, found.failure, found.core_seconds) == ("finished", None, 90.0)
    assert "worker lost" in found.message
    assert record.missing(campaign, 0)[0].ordinal == 1


def test_a_late_answer_after_another_is_superseded(record, claims, keys, session, running, answer) -> None:
    late = running()
    age(record, session, 100.0)
    claims.expire()
    again = running(by=claims.open_session("here", "boot-1", 5, 1.0))
    claims.finish(again, 2, answer(), 1.0)
    assert claims.finish(late, session, answer(shift=1e-3), 90.0) == ()
    assert row(record, late).state == "superseded"


def test_of_two_answers_at_the_same_moment_the_second_keeps_its_difference(
    record, claims, keys, session, running, answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, accepted = [running(), running()], {}
    both, accept = threading.Barrier(2), labels.accept

    def together(*given: Any) -> tuple[str, ...]:
        with contextlib.suppress(threading.BrokenBarrierError):  # SQLite lets one writer in at a time
            both.wait(0.5)
        return accept(*given)

    monkeypatch.setattr(labels, "accept", together)

    def finish(k: int) -> None:
        accepted[k] = claims.finish(attempts[k], session, answer(shift=0.25 * k), 1.0)

    threads = [threading.Thread(target=finish, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(accepted.values()) == [(), ("E", "F", "V")]
    (second,) = [row(record, attempts[k]) for k in range(2) if not accepted[k]]
    assert second.state == "superseded"
    assert second.difference == pytest.approx({"E": 0.25, "F": 0.25, "V": 0.25})


def test_a_worker_given_up_as_lost_is_believed_when_it_reports_a_failure(record, claims, session, running) -> None:
    attempt = running()
    age(record, session, 100.0)
    claims.expire()
    assert claims.fail(attempt, "not converged", "after all", 77.0)
    assert (row(record, attempt).failure, row(record, attempt).core_seconds) == ("not converged", 77.0)


def test_an_answer_by_a_session_that_holds_nothing_is_refused(claims, session, running, answer) -> None:
    other = claims.open_session("here", "boot-1", 5, 1.0)
    with pytest.raises(RecordError, match="another database"):
        claims.finish(running(), other, answer(), 1.0)
    with pytest.raises(RecordError, match="no attempt"):
        claims.finish(10**6, session, answer(), 1.0)


def test_cancelling(record, claims, keys, campaign, session, running) -> None:
    waiting = claims.new_attempt(keys[1], campaign, ("E",))
    attempt, other = running(), running(key=keys[2])
    assert claims.cancel(waiting)
    assert row(record, waiting).state == "withdrawn"
    assert claims.cancel(attempt)
    assert claims.heartbeat(session) == [attempt]
    assert claims.fail(attempt, "crashed", "killed on request", 12.0)
    assert (row(record, attempt).state, row(record, attempt).core_seconds) == ("withdrawn", 12.0)
    assert claims.heartbeat(session) == []
    assert not claims.cancel(attempt)
    assert record.missing(campaign, 0)[0].failures == {}
    assert record.cost(campaign).core_seconds == 12.0
    assert row(record, other).state == "running"


def test_a_process_that_is_gone_loses_its_leases_at_once(record, claims, keys, campaign, running, answer) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(child.pid)
    assert start is not None
    mine = claims.open_session("here", "boot-1", os.getpid(), process_start(os.getpid()) or 0.0)
    theirs = claims.open_session("here", "boot-1", child.pid, start)
    record.lease_campaign(campaign, theirs)
    waiting = claims.new_attempt(keys[2], campaign, ("E",))
    lost, kept = running(by=theirs), running(key=keys[1], by=mine)
    assert claims.release_dead("here", "boot-1") == []
    child.communicate(b"\n")
    assert claims.release_dead("elsewhere", "boot-1") == []
    assert claims.release_dead("here", "boot-2") == []
    assert claims.release_dead("here", "boot-1") == [lost]
    assert row(record, lost).failure == "worker lost"
    assert row(record, waiting).state == "withdrawn"
    assert row(record, kept).state == "running"
    assert record.lease_campaign(campaign, mine) is None
    assert claims.finish(lost, theirs, answer(), 1.0) == ("E", "F", "V")


def test_a_reused_pid_is_not_the_process(claims, running, campaign) -> None:
    start = process_start(os.getpid())
    assert start is not None
    lost = running(by=claims.open_session("here", "boot-1", os.getpid(), start - 1.0))
    assert claims.release_dead("here", "boot-1") == [lost]


def test_a_process_that_has_ended_unreaped_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) is None
    child.wait()
    assert process_start(child.pid) is None


def test_a_call_that_is_given_up_is_charged_with_all_its_cores(record, claims, keys, campaign, session) -> None:
    (attempt,) = claims.new_attempts(campaign, [(keys[0], ("E",))], cores=8)
    assert claims.claim(attempt, session)
    a = schema.attempt
    with record.database.write() as connection:
        connection.execute(update(a).values(started=a.c.started - 500.0))
    assert claims.lose(attempt, "KilledWorker")
    assert row(record, attempt).core_seconds == pytest.approx(4000.0, abs=400.0)


def test_attempts_that_were_never_submitted_are_withdrawn(record, claims, keys, campaign, session, running) -> None:
    """The commit that made them went through, and the word of it was lost with the database."""
    record.lease_campaign(campaign, session)
    kept, stray = (claims.new_attempt(key, campaign, ("E",)) for key in keys[1:3])
    begun = running()
    assert claims.withdraw_strays(session, {kept}) == [stray]
    assert claims.states([kept, stray, begun]) == {kept: "waiting", stray: "withdrawn", begun: "running"}


def test_a_task_that_ends_without_a_row_is_given_up(record, claims, keys, campaign, session, running, answer) -> None:
    waiting, lost, cancelled = claims.new_attempt(keys[1], campaign, ("E",)), running(), running()
    assert claims.cancel(cancelled)
    assert [claims.lose(a, "No space left on device") for a in (waiting, lost, cancelled)] == [True] * 3
    assert [row(record, a).state for a in (waiting, lost, cancelled)] == ["withdrawn", "failed", "withdrawn"]
    assert row(record, lost).failure == "worker lost"
    assert row(record, waiting).core_seconds is None
    assert 0 <= row(record, lost).core_seconds < 60
    assert claims.leases(campaign) == []
    assert not claims.lose(lost, "again")
    # the worker was alive and delivers after all
    assert claims.finish(lost, session, answer(), 3.0) == ("E", "F", "V")
    assert not claims.lose(lost, "too late")
    assert row(record, lost).state == "finished"


def test_leases_say_who_holds_what(record, claims, keys, campaign, session, running) -> None:
    attempt = running()
    (lease,) = claims.leases(campaign)
    assert (lease.attempt, lease.calculation) == (attempt, keys[0])
    assert re.fullmatch(rf"process {os.getpid()} on here, last heard of \d+ s ago", str(lease.holder))
    age(record, session, 100.0)
    assert claims.leases(campaign)[0].holder is None


def test_a_sqlite_file_serves_one_host(record, claims, session) -> None:
    if record.database.dialect != "sqlite":
        claims.open_session("there", "boot-2", 1, 1.0)
        return
    with pytest.raises(RecordError, match=r"another host \(here\).*use PostgreSQL"):
        claims.open_session("there", "boot-2", 1, 1.0)
    claims.open_session("another container here", "boot-1", 1, 1.0)
    for s in (session, session + 1):
        age(record, s, 100.0)
    claims.open_session("there", "boot-2", 1, 1.0)


def test_a_closed_session_holds_nothing(record, claims, session, running) -> None:
    attempt = running()
    assert claims.close_session(session) == [attempt]
    assert claims.close_session(session) == []
    assert row(record, attempt).failure == "worker lost"


def test_calculations_must_be_stored_first(claims, campaign) -> None:
    with pytest.raises(RecordError, match="not in the record"):
        claims.new_attempt("f" * 64, campaign, ("E",))


def test_campaigns_must_be_created_first(claims, keys) -> None:
    with pytest.raises(RecordError, match="no campaign 999"):
        claims.new_attempt(keys[0], 999, ("E",))
