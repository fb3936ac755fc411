"""What people ask of single calculations counts from the newest word on, for the campaign they meant."""

from __future__ import annotations

import pytest

from farfield.db.requests import CANCEL, RETRY
from farfield.errors import RecordError

EFV = ("E", "F", "V")


def fail(claims, campaign: int, key: str, session: int, failure: str = "crashed") -> None:
    attempt = claims.new_attempts(campaign, [(key, EFV)])[0]
    assert claims.claim(attempt, session)
    claims.fail(attempt, failure, "it broke", 1.0)


def test_a_retry_forgets_failures_of_the_calculations_it_names(record, claims, campaign, session, decide) -> None:
    keys = record.store_decision(campaign, decide(0, 2))
    for key in keys:
        fail(claims, campaign, key, session)
    assert record.ask_calculations(campaign, RETRY, [keys[0]]) == []
    assert [m.failures for m in record.missing(campaign, 0)] == [{}, {"crashed": 1}]
    fail(claims, campaign, keys[0], session)
    assert [m.failures for m in record.missing(campaign, 0)] == [{"crashed": 1}, {"crashed": 1}]


def test_a_cancel_gives_up_until_a_retry_and_names_the_open_attempts(record, claims, campaign, session, decide) -> None:
    other = record.create_campaign("other", {}, {"adapter": "emt", "version": 1})
    keys = record.store_decision(campaign, decide(0, 2))
    record.store_decision(other, decide(0, 2))
    attempt = claims.new_attempts(campaign, [(keys[0], EFV)])[0]
    assert record.ask_calculations(campaign, CANCEL, [keys[0]]) == [attempt]
    assert claims.cancel(attempt)
    assert [m.cancelled for m in record.missing(campaign, 0)] == [True, False]
    assert [m.cancelled for m in record.missing(other, 0)] == [False, False]
    assert record.answers(campaign, 0)[0].message == "cancelled by hand"
    news = record.wishes(campaign).news
    record.ask_calculations(campaign, RETRY, [keys[0]])
    assert record.wishes(campaign).news > news
    assert [m.cancelled for m in record.missing(campaign, 0)] == [False, False]


def test_some_of_what_is_missing_is_some_of_all(record, campaign, decide) -> None:
    keys = record.store_decision(campaign, decide(0, 5))
    whole = record.missing(campaign, 0)
    assert record.missing(campaign, 0, keys[1:3]) == whole[1:3]
    assert record.missing(campaign, 0, []) == []


def test_a_pause_outlives_the_controller_and_is_refused_at_the_end(record, claims, campaign, session) -> None:
    assert record.lease_campaign(campaign, session) is None
    assert record.pause("first").session == session
    assert record.wishes(campaign).paused
    record.release_campaign(campaign, session)
    assert record.pause("first") is None
    assert record.lease_campaign(campaign, session) is None
    assert record.campaign("first").state == "paused"
    assert record.resume("first")[0]
    assert not record.resume("first")[0]
    assert record.campaign("first").state == "running"
    record.set_campaign_state(campaign, "converged", "tolerance met")
    with pytest.raises(RecordError, match="nothing to pause"):
        record.pause("first")
    with pytest.raises(RecordError, match="no campaign 'none'"):
        record.resume("none")
