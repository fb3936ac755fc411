"""Sums that were kept and sums made anew are the same, whatever the attempts went through and whenever it was."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import delete, event, func, select

from farfield.db import rollup, schema


def cost_anew(record, campaign: int):
    """The cost without any kept sum."""
    with record.database.write() as connection:
        kept = connection.execute(select(schema.rollup)).mappings().all()
        connection.execute(delete(schema.rollup))
    found = record.cost(campaign)
    with record.database.write() as connection:
        if kept:
            connection.execute(schema.rollup.insert(), [dict(k) for k in kept])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_kept_sums_are_the_sums(
    record, claims, campaign, session, decide, answer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(rollup, "MANY", 3)
    rng = np.random.default_rng(seed)
    keys = record.store_decision(campaign, decide(0, 6, role="training"))
    keys.append(record.store_calculation(decide(9, 1).proposals[0].atoms, record.campaign("first").fingerprint_hash))
    running, lost, rolled = [], [], 0
    for step in range(60):
        what = rng.integers(8)
        if what < 3:
            attempt = claims.new_attempt(str(rng.choice(keys)), campaign, ("E", "F", "V")[: rng.integers(1, 4)])
            if rng.random() < 0.8 and claims.claim(attempt, session):
                running.append(attempt)
        elif what < 5 and running:
            attempt = running.pop(rng.integers(len(running)))
            ways = ("finish", "fail", "lose", "cancel")
            way = ways[rng.integers(4)]
            if way == "finish":
                claims.finish(attempt, session, answer("EFV"), float(step))
            elif way == "fail":
                claims.fail(attempt, "crashed", "x", float(step))
            elif way == "lose":
                claims.lose(attempt, "gone")
                lost.append(attempt)
            else:
                claims.cancel(attempt)
                claims.fail(attempt, "crashed", "killed", float(step))
        elif what == 5 and lost:
            claims.finish(lost.pop(), session, answer("EFV"), float(step))  # its answer comes late
        elif what == 6:
            rolled += record.roll_up(campaign)
        kept, anew = record.cost(campaign), cost_anew(record, campaign)
        assert (kept.calls, kept.running) == (anew.calls, anew.running)
        for mine, theirs in zip((kept.by_role, kept.by_kinds, kept.by_size, kept.by_state),
                                (anew.by_role, anew.by_kinds, anew.by_size, anew.by_state), strict=True):  # fmt: skip
            assert {k: v.calls for k, v in mine.items()} == {k: v.calls for k, v in theirs.items()}
            assert {k: v.core_seconds for k, v in mine.items()} == pytest.approx(
                {k: v.core_seconds for k, v in theirs.items()}
            )
    assert rolled > 0


def test_what_is_kept_is_not_added_up_again(record, claims, campaign, session, decide, answer, monkeypatch) -> None:
    """The live sum sees only what came since."""
    monkeypatch.setattr(rollup, "MANY", 5)
    for number in range(3):
        for key in record.store_decision(campaign, decide(number, 6)):
            attempt = claims.new_attempt(key, campaign, ("E",))
            claims.claim(attempt, session)
            claims.finish(attempt, session, answer("E"), 1.0)
        assert record.roll_up(campaign)
    assert not record.roll_up(campaign)
    with record.database.read() as connection:
        upto = connection.scalar(select(func.max(schema.rollup.c.upto)))
        assert upto == connection.scalar(select(func.max(schema.attempt.c.id)))
    asked = []
    event.listen(
        record.database.engine, "before_cursor_execute", lambda c, k, text, values, x, m: asked.append((text, values))
    )
    assert record.cost(campaign).calls == 18
    (live,) = [values for text, values in asked if "sum(attempt.core_seconds)" in text]
    assert upto in (live.values() if isinstance(live, dict) else live)
