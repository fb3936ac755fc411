"""The glance says what the record says, and reads no more of it when the campaign is longer."""

from __future__ import annotations

from sqlalchemy import event

from farfield.db import overview
from farfield.db.progress import newest_failure


def fill(record, claims, campaign, session, decide, answer, decisions: range) -> None:
    for number in decisions:
        keys = record.store_decision(campaign, decide(number, 3, seed=campaign))
        for k, key in enumerate(keys):
            attempt = claims.new_attempts(campaign, [(key, ("E", "F", "V"))])[0]
            assert claims.claim(attempt, session)
            if k or number < decisions[-1]:
                claims.finish(attempt, session, answer("EFV"), 1.0 + number)
        record.event(campaign, "suspect", f"line {number}")


def test_rounds_are_the_decisions_without_their_arrays(record, claims, campaign, session, decide, answer) -> None:
    fill(record, claims, campaign, session, decide, answer, range(4))
    with record.database.read() as connection:
        rounds = overview.rounds(connection, campaign)
        last = overview.rounds(connection, campaign, 2)
        running = overview.calls(connection, campaign)
        left = overview.open_count(connection, campaign)
    stored = record.decisions(campaign)
    assert [r.number for r in rounds] == [d.number for d in stored]
    assert last == rounds[2:]
    charges = record.charges(campaign)
    for r, d in zip(rounds, stored, strict=True):
        assert sum(g.count for g in r.groups) == len(d.proposals)
        paid = sum(s.core_seconds for place, s in charges.items() if place and place[0] == r.number)
        assert r.core_seconds == paid == record.charge(campaign, r.number).core_seconds
    assert left == len(record.missing(campaign, 3)) == 1
    assert [c.calculation for c in running] == [record.missing(campaign, 3)[0].calculation]


def test_the_newest_failure_is_one_step_in_an_index(record, campaign) -> None:
    """However many there are: some campaigns fail a lot. SQLite says how it will read."""
    if record.database.dialect != "sqlite":
        return
    with record.database.read() as connection:
        query = newest_failure(campaign, "crashed")
        words = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}")]
    (step,) = steps  # no second one, which would sort
    assert step == "SEARCH attempt USING INDEX ix_attempt_campaign_id_failure_id (campaign_id=? AND failure=?)"


def test_a_longer_campaign_takes_no_more_reads(record, claims, campaign, session, decide, answer) -> None:
    fill(record, claims, campaign, session, decide, answer, range(3))
    rows: list[int] = []

    def reads() -> int:
        rows.clear()
        with record.database.read() as connection:

            @event.listens_for(connection, "after_execute")
            def count(*_: object) -> None:
                rows.append(1)

            overview.rounds(connection, campaign, 2)
            overview.lines(connection, campaign, limit=2)
            overview.open_count(connection, campaign)
            overview.calls(connection, campaign)
        return len(rows)

    few = reads()
    fill(record, claims, campaign, session, decide, answer, range(3, 12))
    assert reads() == few
