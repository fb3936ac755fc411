"""What is bought next: the longest call of what was never tried, nothing that no longer pays, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ase.build import bulk

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.oracles.observation import Observations
from farfield.service.campaign.continuous import SPECULATIVE
from farfield.service.campaign.decision import Decision, Proposal
from farfield.service.runner.buying import Buying

SIZES = ((1, 1, 1), (2, 2, 2), (1, 1, 2), (1, 2, 2))
"""4, 32, 8 and 16 atoms."""


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database:
        yield Record(database)


@pytest.fixture
def campaign(record: Record) -> int:
    return record.create_campaign("campaign", {}, {"adapter": "emt", "version": 1})


@pytest.fixture
def buying(record: Record, campaign: int) -> Buying:
    """One decision on cells of different size."""
    cells = [bulk("Cu", cubic=True) * size for size in SIZES]
    proposals = tuple(Proposal(k, a, ("E",), "training", "core", (1, 1, 1), {}) for k, a in enumerate(cells))
    decision = Decision(0, "cells", proposals, (), 0, {"model": "power"}, {}, {}, b"")
    record.store_decision(campaign, decision)
    buying = Buying(record, campaign)
    buying.add(decision, lambda p: len(p.atoms) ** 2.5)
    return buying


def test_the_longest_call_starts_first(buying: Buying) -> None:
    assert [place for place, _ in buying.take(3, ())] == [(0, 1), (0, 3), (0, 2)]
    assert [place for place, _ in buying.take(3, ())] == [(0, 0)]
    assert buying.take(3, ()) == []


@pytest.mark.parametrize(("failure", "first"), [("crashed", (0, 3)), ("timed out", (0, 1))])
def test_what_was_never_tried_tells_most_and_a_limit_that_was_met_is_widened_at_once(
    record: Record, campaign: int, buying: Buying, failure: str, first: tuple[int, int]
) -> None:
    claims = Claims(record.database)
    ((place, m),) = buying.take(1, ())
    attempt = claims.new_attempt(m.calculation, campaign, ("E",))
    assert claims.claim(attempt, claims.open_session("here", "boot-1", 1, 1.0))
    claims.fail(attempt, failure, "", 1.0)
    buying.look([m.calculation])
    assert place == (0, 1)
    assert buying.take(1, ())[0][0] == first


def test_what_is_bought_ahead_of_the_loop_waits_for_what_the_loop_asked(record: Record, campaign: int) -> None:
    """However long it takes, and though the rest has failed before."""
    terms = {0: SPECULATIVE, 1: "core", 2: SPECULATIVE, 3: "core"}
    sizes = ((2, 2, 2), (1, 1, 1), (1, 1, 2), (1, 2, 2))
    cells = [bulk("Cu", cubic=True) * size for size in sizes]
    proposals = tuple(Proposal(k, a, ("E",), "training", terms[k], (1, 1, 1), {}) for k, a in enumerate(cells))
    decision = Decision(0, "cells", proposals, (), 0, {"model": "power"}, {}, {}, b"")
    record.store_decision(campaign, decision)
    buying = Buying(record, campaign)
    buying.add(decision, lambda p: len(p.atoms) ** 2.5)
    claims = Claims(record.database)
    ((place, m),) = buying.take(1, ())
    attempt = claims.new_attempt(m.calculation, campaign, ("E",))
    assert claims.claim(attempt, claims.open_session("here", "boot-1", 1, 1.0))
    claims.fail(attempt, "crashed", "", 1.0)
    buying.look([m.calculation])
    assert place == (0, 3)
    order = [(0, 1), (0, 3), (0, 0), (0, 2)]
    assert [place for place, _ in buying.take(9, ())] == order
    urgent = sorted(order, key=buying.priority, reverse=True)
    assert urgent == [(0, 3), (0, 1), (0, 0), (0, 2)]


def test_only_what_is_settled_counts_towards_the_next_decision(record: Record, campaign: int, buying: Buying) -> None:
    """A worker that was lost brought nothing, and what another controller's call brought counts."""
    claims = Claims(record.database)
    session = claims.open_session("here", "boot-1", 1, 1.0)
    keys = {place: m.calculation for place, m in buying.take(9, ())}
    lost, done = (claims.new_attempt(keys[place], campaign, ("E",)) for place in ((0, 0), (0, 2)))
    for attempt in (lost, done):
        assert claims.claim(attempt, session)
    claims.lose(lost, "KilledWorker", blamed=True)
    buying.look(keys.values())
    assert buying.settled == 0
    claims.finish(done, session, Observations({"E": -1.0}), 1.0)
    buying.look()
    assert buying.settled == 1
    buying.drop([(0, 1)])
    assert buying.settled == 1


def test_what_no_longer_pays_is_not_bought_unless_it_runs(buying: Buying) -> None:
    (keys,) = [buying.calculations([(0, 1)])]
    buying.drop([(0, 1), (0, 3)])
    assert buying.standing((0, 1), keys) == "pending"  # a worker has it: its answer is taken
    assert buying.standing((0, 1), ()) == "dropped"
    assert [place for place, _ in buying.take(9, ())] == [(0, 2), (0, 0)]
    assert buying.unsettled == {(0, 2), (0, 0)}


def test_nothing_is_bought_that_is_under_way(record: Record, campaign: int, buying: Buying) -> None:
    keys = buying.calculations([(0, 1)])
    assert (0, 1) not in [place for place, _ in buying.take(9, keys)]
    buying.look()
    (key,) = keys
    claims = Claims(record.database)
    (attempt,) = claims.new_attempts(campaign, [(key, ("E",))])
    buying.look()
    assert (0, 1) not in [place for place, _ in buying.take(9, ())]  # nor what somebody else has asked
    assert attempt is not None
    claims.withdraw(attempt)
    buying.look([key])
    assert [place for place, _ in buying.take(9, ())] == [(0, 1)]
