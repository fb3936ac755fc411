"""The record gives back what it was given, once, and says what is missing."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from sqlalchemy import func, select

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.identity import structure_bytes
from farfield.db.record import Record
from farfield.errors import RecordError


def buy(claims: Claims, key: str, campaign: int, session: int, observations, kinds: str = "EFV", seconds=2.0):
    attempt = claims.new_attempt(key, campaign, tuple(kinds))
    assert claims.claim(attempt, session)
    return claims.finish(attempt, session, observations, seconds)


def test_decisions_come_back_bit_for_bit(record: Record, campaign: int, decide) -> None:
    meta = {"strain": [[0.1, 1 / 3], [0.0, -0.0]], "sign": -1}
    first = decide(0, 3, meta=meta, rung=(2, 2, 3), inputs=("b/E", "a/F"), summary={"eta": float("nan"), "n": 3})
    second = decide(1, 2, kinds=("V", "E"), role="strain", term="eta_V", seed=9)
    record.store_decision(campaign, first)
    record.store_decision(campaign, second)
    stored = record.decisions(campaign)
    assert [d.number for d in stored] == [0, 1]
    for ours, theirs in zip((first, second), stored, strict=True):
        for field in ("number", "reason", "inputs", "seed", "cost_model", "weights", "state"):
            assert getattr(theirs, field) == getattr(ours, field)
        assert repr(theirs.summary) == repr(ours.summary)
        assert list(theirs.weights) == list(ours.weights)
        for p, q in zip(ours.proposals, theirs.proposals, strict=True):
            assert structure_bytes(p.atoms) == structure_bytes(q.atoms)
            assert (p.ordinal, p.role, p.term, p.rung, p.meta) == (q.ordinal, q.role, q.term, q.rung, q.meta)
    assert stored[1].proposals[0].kinds == ("E", "V")
    last = record.last_decision(campaign)
    assert last is not None
    assert last.number == 1


def test_a_decision_is_stored_once(record: Record, campaign: int, decide) -> None:
    assert record.last_decision(campaign) is None
    keys = record.store_decision(campaign, decide(0))
    assert record.store_decision(campaign, decide(0)) == keys
    with pytest.raises(RecordError, match="other proposals"):
        record.store_decision(campaign, decide(0, seed=1, count=3))
    with pytest.raises(RecordError, match="in order"):
        record.store_decision(campaign, decide(2))
    assert len(record.decisions(campaign)) == 1


def test_a_refused_decision_leaves_no_row(record: Record, campaign: int, decide) -> None:
    def rows() -> list[int]:
        with record.database.read() as connection:
            return [
                connection.scalars(select(func.count()).select_from(t)).one() for t in schema.metadata.sorted_tables
            ]

    before = rows()
    bad = decide(0, 3)
    bad = dataclasses.replace(
        bad, proposals=(*bad.proposals[:2], dataclasses.replace(bad.proposals[2], meta={"x": set()}))
    )
    with pytest.raises(Exception, match="set"):
        record.store_decision(campaign, bad)
    with pytest.raises(RecordError, match="FC"):
        record.store_decision(campaign, decide(0, kinds=("FC",)))
    assert rows() == before


def test_missing_shrinks_to_nothing(
    record: Record, claims: Claims, campaign: int, session: int, decide, answer
) -> None:
    keys = record.store_decision(campaign, decide(0, 2))
    assert [(m.ordinal, m.calculation, m.kinds, m.failures, m.open) for m in record.missing(campaign, 0)] == [
        (k, key, ("E", "F", "V"), {}, ()) for k, key in enumerate(keys)
    ]
    buy(claims, keys[0], campaign, session, answer("EF"))
    buy(claims, keys[1], campaign, session, answer("EFV"))
    assert [(m.ordinal, m.kinds) for m in record.missing(campaign, 0)] == [(0, ("V",))]
    attempt = claims.new_attempt(keys[0], campaign, ("V",))
    assert record.missing(campaign, 0)[0].open == (attempt,)
    claims.claim(attempt, session)
    claims.finish(attempt, session, answer("V"), 1.0)
    assert record.missing(campaign, 0) == []


def test_answers_are_the_kinds_that_were_asked(record, claims, campaign, session, decide, answer) -> None:
    keys = record.store_decision(campaign, decide(0, 2, kinds=("E", "F")))
    buy(claims, keys[0], campaign, session, answer(energy_zero=-3.6, moments=np.ones(4)))
    a, b = record.answers(campaign, 0)
    assert (a.ordinal, a.calculation, a.energy, a.failure) == (0, keys[0], -3.7, None)
    assert a.forces.tobytes() == answer().values["F"].tobytes()
    assert a.virial is None
    assert (b.energy, b.forces, b.virial, b.failure) == (None, None, None, None)
    known = record.labels(keys[0])
    assert known.virial.tobytes() == answer().values["V"].tobytes()
    assert known.energy_zero == -3.6
    assert (known.moments == 1).all()


def test_an_answer_knows_what_it_took_once_it_is_whole(record, claims, campaign, session, decide, answer) -> None:
    keys = record.store_decision(campaign, decide(0, 2))
    buy(claims, keys[0], campaign, session, answer("EF"), seconds=3.0)
    buy(claims, keys[1], campaign, session, answer(), seconds=4.0)
    assert [a.core_seconds for a in record.answers(campaign, 0)] == [None, 4.0]
    buy(claims, keys[0], campaign, session, answer("V"), seconds=0.5)
    assert [a.core_seconds for a in record.answers(campaign, 0)] == [3.5, 4.0]
    second = record.create_campaign("second", {}, {"version": 1, "adapter": "emt"})
    record.store_decision(second, decide(0, 2))
    assert [a.core_seconds for a in record.answers(second, 0)] == [3.5, 4.0]  # whoever paid


def test_a_second_campaign_of_the_oracle_buys_nothing_again(record, claims, campaign, session, decide, answer) -> None:
    keys = record.store_decision(campaign, decide(0, 2))
    buy(claims, keys[0], campaign, session, answer())
    second = record.create_campaign("second", {}, {"version": 1, "adapter": "emt"})
    assert record.store_decision(second, decide(0, 2)) == keys
    assert [m.ordinal for m in record.missing(second, 0)] == [1]
    assert record.answers(second, 0)[0].energy == -3.7
    assert record.cost(second).calls == 0
    other = record.create_campaign("another oracle", {}, {"version": 2, "adapter": "emt"})
    assert set(record.store_decision(other, decide(0, 2))).isdisjoint(keys)
    assert len(record.missing(other, 0)) == 2


def test_failures_of_another_campaign_burn_no_budget(record, claims, campaign, session, decide) -> None:
    keys = record.store_decision(campaign, decide(0, 1))
    second = record.create_campaign("second", {}, {"version": 1, "adapter": "emt"})
    record.store_decision(second, decide(0, 1))
    for k, failure in enumerate(("timed out", "crashed", "timed out")):
        attempt = claims.new_attempt(keys[0], second, ("E",))
        claims.claim(attempt, session)
        claims.fail(attempt, failure, f"why {k}", 1.0)
    assert record.missing(second, 0)[0].failures == {"timed out": 2, "crashed": 1}
    assert record.answers(second, 0)[0].failure == "timed out"
    assert record.failure_messages(second) == {"timed out": "why 2", "crashed": "why 1"}
    assert record.failure_messages(campaign) == {}
    assert record.missing(campaign, 0)[0].failures == {}
    assert record.answers(campaign, 0)[0].failure is None


def test_every_call_that_ran_is_charged(record, claims, campaign, session, decide, answer) -> None:
    keys = record.store_decision(campaign, decide(0, 3))
    record.store_decision(campaign, decide(1, 1, role="verification", kinds=("E", "F")))
    buy(claims, keys[0], campaign, session, answer(), seconds=3.0)
    failed = claims.new_attempt(keys[1], campaign, ("E", "F", "V"))
    claims.claim(failed, session)
    claims.fail(failed, "timed out", "60 s", 60.0)
    claims.withdraw(claims.new_attempt(keys[2], campaign, ("E",)))
    claims.claim(claims.new_attempt(keys[2], campaign, ("E",)), session)
    outside = record.store_calculation(decide(5, 1).proposals[0].atoms, record.campaign("first").fingerprint_hash)
    buy(claims, outside, campaign, session, answer("EF"), kinds="EF", seconds=7.0)
    cost = record.cost(campaign)
    assert (cost.calls, cost.core_seconds, cost.running) == (3, 70.0, 1)
    for part in (cost.by_role, cost.by_kinds, cost.by_size, cost.by_state):
        assert sum(s.calls for s in part.values()) == 3
        assert sum(s.core_seconds for s in part.values()) == 70.0
    assert {k: s.core_seconds for k, s in cost.by_role.items()} == {"training": 63.0, "verify": 7.0}
    assert cost.by_state["failed: timed out"].core_seconds == 60.0
    charges = record.charges(campaign)
    assert {k: s.core_seconds for k, s in charges.items()} == {(0, 0): 3.0, (0, 1): 60.0, None: 7.0}


def test_a_calculation_proposed_twice_is_charged_where_it_was_bought(record, claims, campaign, session, decide, answer):
    first = decide(0, 1, kinds=("E",))
    keys = record.store_decision(campaign, first)
    buy(claims, keys[0], campaign, session, answer("E"), kinds="E", seconds=1.0)
    again = dataclasses.replace(first, number=1, proposals=(dataclasses.replace(first.proposals[0], kinds=("E", "V")),))
    assert record.store_decision(campaign, again) == keys
    assert record.missing(campaign, 1)[0].kinds == ("V",)
    buy(claims, keys[0], campaign, session, answer("V"), kinds="V", seconds=5.0)
    assert {k: s.core_seconds for k, s in record.charges(campaign).items()} == {(0, 0): 1.0, (1, 0): 5.0}


def test_force_constants_hang_on_the_undisplaced_cell(record, claims, campaign, session, decide, answer) -> None:
    keys = record.store_decision(campaign, decide(0, 2))
    digest = record.campaign("first").fingerprint_hash
    cell = decide(7, 1).proposals[0].atoms
    column = np.random.default_rng(0).normal(size=(4, 3))
    parts = [(keys[0], 0.01, np.eye(3)), (keys[1], -0.01, -np.eye(3))]
    how = (cell, digest, 0, (1.0, 0.0, -0.0), 0.01, column)
    with pytest.raises(RecordError, match="accepted forces"):
        record.store_force_constants(*how, parts)
    for key in keys:
        buy(claims, key, campaign, session, answer())
    assert record.store_force_constants(*how, parts)
    assert not record.store_force_constants(*how, parts)
    assert record.store_force_constants(cell, digest, 0, (0.0, 1.0, 0.0), 0.01, column, parts)
    found = record.force_constants(cell, digest)
    assert [f.direction for f in found] == [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
    assert found[0].column.tobytes() == column.tobytes()
    assert [(key, step) for key, step, _ in found[0].parts] == [(keys[0], 0.01), (keys[1], -0.01)]
    assert (np.array(found[0].parts[1][2]) == -np.eye(3)).all()
    with pytest.raises(RecordError, match="shape"):
        record.store_force_constants(cell, digest, 0, (0, 0, 1), 0.01, column[:2], parts)


def test_estimates_models_and_events(record: Record, campaign: int, decide) -> None:
    for number in range(3):
        record.store_decision(campaign, decide(number))
    record.store_estimate(campaign, 1, {"eta_geo": 0.01, "gates": {"soft": False}})
    record.store_estimate(campaign, 1, {"eta_geo": 99.0})
    record.store_estimate(campaign, 2, {"eta_geo": float("inf")})
    assert record.estimates(campaign) == {1: {"eta_geo": 0.01, "gates": {"soft": False}}, 2: {"eta_geo": float("inf")}}
    with pytest.raises(RecordError, match="no fitted surrogate"):
        record.model(campaign)
    record.store_model(campaign, 1, b"one")
    record.store_model(campaign, 2, b"two")
    record.store_model(campaign, 2, b"three")
    assert (record.model(campaign, 1), record.model(campaign)) == (b"one", b"two")
    with pytest.raises(RecordError, match="decision 9"):
        record.store_estimate(campaign, 9, {})
    record.event(campaign, "created", "hello")
    record.event(campaign, "suspect", "far off", {"calculation": "x"})
    assert [(e.kind, e.message, e.data) for e in record.events(campaign)] == [
        ("created", "hello", {}),
        ("suspect", "far off", {"calculation": "x"}),
    ]
    assert [e.message for e in record.events(campaign, "suspect")] == ["far off"]


def test_blobs_have_a_limit_that_is_said(record: Record, campaign: int, decide) -> None:
    with pytest.raises(RecordError, match="64 MB"):
        record.store_decision(campaign, decide(0, state=bytes(64 * 2**20 + 1)))
    assert record.decisions(campaign) == []


def test_campaigns_are_told_apart_by_name(record: Record, campaign: int) -> None:
    stored = record.campaign("first")
    assert stored is not None
    assert (stored.id, stored.config, stored.fingerprint) == (campaign, {"seed": 0}, {"adapter": "emt", "version": 1})
    assert record.campaign("none") is None
    assert record.campaigns() == ["first"]
    with pytest.raises(RecordError, match="another name"):
        record.create_campaign("first", {}, {})
    record.set_campaign_state(campaign, "converged", "tolerance met")
    stored = record.campaign("first")
    assert stored is not None
    assert (stored.state, stored.ending) == ("converged", "tolerance met")


def test_of_many_creators_of_one_name_one_makes_it(record: Record) -> None:
    start, refused = threading.Barrier(4, timeout=60), []

    def create() -> None:
        start.wait()
        try:
            record.create_campaign("same", {}, {"adapter": "emt"})
        except RecordError as fault:
            refused.append(str(fault))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert record.campaigns() == ["same"]


def test_the_hash_is_that_of_the_oracles(record: Record) -> None:
    from farfield.oracles.emt import EMTOracle
    from farfield.oracles.fingerprint import fingerprint_hash

    oracle = EMTOracle()
    record.create_campaign("emt", {}, oracle.fingerprint())
    stored = record.campaign("emt")
    assert stored is not None
    assert stored.fingerprint_hash == fingerprint_hash(oracle)


def test_another_version_is_registered_before_it_is_asked(record: Record, campaign: int, decide) -> None:
    keys = record.store_decision(campaign, decide(0))
    with pytest.raises(RecordError, match="set_oracle"):
        record.store_decision(campaign, decide(1), "f" * 64)
    record.set_oracle(campaign, {"adapter": "emt", "version": 2})
    record.store_decision(campaign, decide(1))
    assert [p.calculation for p in record.decisions(campaign)[0].proposals] == keys


def test_one_controller_at_a_time(record: Record, claims: Claims, campaign: int, decide) -> None:
    one, two = (claims.open_session("here", "boot-1", 100 + k, 1.0) for k in range(2))
    assert not record.request_stop("first")
    assert record.lease_campaign(campaign, one) is None
    assert record.lease_campaign(campaign, one) is None
    holder = record.lease_campaign(campaign, two)
    assert holder is not None
    assert "process 100 on here" in str(holder)
    assert record.request_stop("first")
    assert record.wishes(campaign).stop
    (key, *_) = record.store_decision(campaign, decide(0))
    waiting = claims.new_attempt(key, campaign, ("E",))
    record.release_campaign(campaign, one)
    assert record.missing(campaign, 0)[0].open == ()
    assert not claims.claim(waiting, two)
    assert not record.request_stop("first")
    assert record.lease_campaign(campaign, two) is None
    assert not record.wishes(campaign).stop
    claims.close_session(two)
    assert record.lease_campaign(campaign, one) is None
