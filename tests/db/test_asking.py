"""Attempts asked for in batches: one per calculation that is not under way, whoever else asks at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.errors import CampaignInterrupted, RecordError

EFV = ("E", "F", "V")


def test_a_batch_is_the_same_as_single_attempts(record, claims, campaign, decide) -> None:
    keys = record.store_decision(campaign, decide(0, 4))
    new = claims.new_attempts(campaign, [(key, EFV) for key in reversed(keys)])
    assert len(set(new)) == 4
    assert None not in new
    assert claims.states(new) == dict.fromkeys(new, "waiting")
    with record.database.read() as connection:
        a, c = schema.attempt.c, schema.calculation.c
        rows = connection.execute(
            select(a.id, c.key, a.number, a.kinds, a.proposal_id.is_not(None)).join(
                schema.calculation, c.id == a.calculation_id
            )
        ).all()
    assert {(r[0], r[1]) for r in rows} == set(zip(new, reversed(keys), strict=True))
    assert {tuple(r[2:]) for r in rows} == {(1, "E,F,V", True)}


def test_what_is_under_way_is_not_asked_again_until_it_failed(
    record, claims, campaign, session, decide, answer
) -> None:
    other = record.create_campaign("other", {}, {"adapter": "emt", "version": 1})
    keys = record.store_decision(campaign, decide(0, 2))
    assert record.store_decision(other, decide(0, 2)) == keys
    first = claims.new_attempts(campaign, [(keys[0], EFV)])[0]
    assert claims.new_attempts(other, [(keys[0], EFV)]) == [None]
    assert claims.claim(first, session)
    assert claims.new_attempts(other, [(keys[0], EFV), (keys[1], EFV)])[0] is None
    claims.fail(first, "crashed", "it broke", 1.0)
    second = claims.new_attempts(other, [(keys[0], EFV)])[0]
    assert second is not None  # the failure is the first one's, the second may buy
    assert [m.failures for m in record.missing(other, 0)] == [{}, {}]
    assert [m.failures for m in record.missing(campaign, 0)] == [{"crashed": 1}, {}]
    assert claims.claim(second, session)
    claims.finish(second, session, answer("EFV"), 1.0)
    assert record.missing(campaign, 0)[0].calculation == keys[1]
    assert record.cost(campaign).calls == record.cost(other).calls == 1


def test_the_lease_of_one_campaign_runs_out_and_the_other_buys(record, claims, campaign, decide) -> None:
    other = record.create_campaign("other", {}, {"adapter": "emt", "version": 1})
    keys = record.store_decision(campaign, decide(0, 1))
    record.store_decision(other, decide(0, 1))
    worker = claims.open_session("here", "boot-1", 4_000_000, 1.0)
    attempt = claims.new_attempts(campaign, [(keys[0], EFV)])[0]
    assert claims.claim(attempt, worker)
    assert claims.expire(lease=60.0) == []
    assert claims.new_attempts(other, [(keys[0], EFV)]) == [None]
    assert claims.expire(lease=-1.0) == [attempt]
    assert claims.new_attempts(other, [(keys[0], EFV)]) != [None]


def test_of_many_that_ask_at_once_one_gets_each_attempt(url, record, campaign, decide) -> None:
    keys = record.store_decision(campaign, decide(0, 12))

    def ask(turn: int) -> int:
        with open_database(url) as database:
            order = keys if turn % 2 else keys[::-1]
            return sum(a is not None for a in Claims(database).new_attempts(campaign, [(k, EFV) for k in order]))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 12
    with record.database.read() as connection:
        assert connection.scalars(select(func.count()).select_from(schema.attempt)).one() == 12


def test_only_what_nobody_claimed_is_taken_back(record, claims, campaign, session, decide) -> None:
    keys = record.store_decision(campaign, decide(0, 3))
    a, b, c = claims.new_attempts(campaign, [(k, EFV) for k in keys])
    assert claims.claim(b, session)
    assert claims.withdraw_all([a, b, c]) == [a, c]
    assert claims.states([a, b, c]) == {a: "withdrawn", b: "running", c: "withdrawn"}
    assert not claims.claim(a, session)


def test_strangers_are_refused(record: Record, claims: Claims, campaign: int) -> None:
    with pytest.raises(RecordError, match="no campaign"):
        claims.new_attempts(99, [])
    with pytest.raises(CampaignInterrupted, match="taken over"):  # who was suspended, and is no longer in charge
        claims.new_attempts(campaign, [("0" * 64, EFV)], session=99)
    with pytest.raises(RecordError, match="not in the record"):
        claims.new_attempts(campaign, [("0" * 64, EFV)])
