"""How many calculations have failed in a row: as if the whole history were read."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select

from farfield.db import schema
from farfield.db.record import Record

FAILURES = ("crashed", "timed out", "worker lost")


@pytest.mark.parametrize("seed", range(4))
def test_a_streak_is_what_the_whole_history_says(
    record: Record, claims, campaign: int, session: int, decide, answer, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    keys = record.store_decision(campaign, decide(0, 8))
    seen = set()
    for _ in range(40):
        attempt = claims.new_attempt(str(rng.choice(keys)), campaign, ("E",))
        if not claims.claim(attempt, session):
            continue
        if rng.random() < 0.15:
            claims.finish(attempt, session, answer("E"), 1.0)
        else:
            claims.fail(attempt, str(rng.choice(FAILURES)), f"attempt {attempt}", 1.0)
        for patience in ({}, {"timed out": 2}):
            found, expected = record.streak(campaign, patience), naive(record, campaign, patience)
            assert (found.calculations, found.message) == expected
            seen.add(found.calculations)
    assert len(seen) > 2


def naive(record: Record, campaign: int, patience: dict[str, int]) -> tuple[int, str]:
    """The number of new calculations that failed since the last success, and the last message: by going through all."""
    a = schema.attempt.c
    with record.database.read() as connection:
        rows = connection.execute(
            select(a.calculation_id, a.state, a.failure, a.message)
            .where(a.campaign_id == campaign, a.state.in_(("finished", "superseded", "failed")))
            .order_by(a.ended, a.id)
        ).all()
    times: dict[tuple[int, str], int] = {}
    failed, new, last = set[int](), set[int](), ""
    for calculation, state, failure, message in rows:
        if state != "failed":
            new.clear()
        elif failure != "worker lost":
            times[calculation, failure] = times.get((calculation, failure), 0) + 1
            if times[calculation, failure] >= patience.get(failure, 1):
                new |= {calculation} - failed
                failed.add(calculation)
                last = message
    return (len(new), last) if new else (0, "")
