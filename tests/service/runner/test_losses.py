"""What came back, and what it tells of workers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import pytest
from ase.build import bulk
from sqlalchemy import select

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.db.schema import BLAMED
from farfield.oracles import registry
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.runner import fates
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.diary import Diary
from farfield.service.runner.listener import Silent
from farfield.service.runner.losses import DOUBT, Losses
from farfield.service.runner.submission import Return, Submission

OTHER = ("another", "boot-9", 1, 1.0)


@pytest.mark.parametrize("reruns", [True, False])
def test_a_call_that_dask_ran_again_counts_once_its_first_worker_is_given_up(tmp_path: Path, reruns: bool) -> None:
    """A scheduler of somebody else's does so when a worker dies, and says nothing: a call that kills every worker it
    meets would be bought for ever. Where only the network was cut, the first worker's answer still comes. A scheduler
    that runs nothing again whose worker died does so for a worker that leaves, at the end of its job say."""
    oracle, atoms = registry.load("emt"), bulk("Cu", cubic=True)
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database:
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(atoms, fingerprint_hash(oracle))
        diary = Diary(record, Silent())
        diary.campaign = campaign
        cluster = Cluster(cast(Any, None))  # nobody is asked anything
        cluster.reruns = reruns
        losses = Losses(claims, Submission(cluster, claims), diary, lambda: None)
        session = claims.open_session(*OTHER)
        again, only = (claims.new_attempt(key, campaign, (kind,)) for kind in ("E", "F"))
        for attempt in (again, only):
            assert claims.claim(attempt, session)
        assert losses.returned(Return(again, key, "not claimed", "", "tcp://10.0.0.2:1"))
        assert claims.states([again]) == {again: "running"}
        lost = claims.expire(lease=-1.0)
        losses.expired(lost)
        assert sorted(lost) == [again, only]
        a = schema.attempt.c
        with database.read() as connection:
            rows = connection.execute(select(a.id, a.failure, a.message).order_by(a.id)).all()
        assert [(r.id, r.failure, r.message.startswith(BLAMED)) for r in rows] == [
            (again, "worker lost", reruns),
            (only, "worker lost", False),
        ]


def test_a_worker_that_lost_one_call_and_can_begin_no_other_makes_its_host_suspect(tmp_path: Path) -> None:
    oracle = registry.load("emt")
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database:
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        diary = Diary(record, Silent())
        diary.campaign = campaign
        sending = Submission(Cluster(cast(Any, None)), claims)  # nobody is asked anything
        losses = Losses(claims, sending, diary, lambda: None)
        session = claims.open_session(*OTHER)
        for k in range(3):
            key = record.store_calculation(bulk("Cu", cubic=True, a=3.6 + 0.01 * k), fingerprint_hash(oracle))
            attempt = claims.new_attempt(key, campaign, ("E",))
            if k == 0:
                assert claims.claim(attempt, session)
            assert not sending.nodes.avoided()
            assert losses.returned(Return(attempt, key, "unfit", "no disk", "tcp://10.0.0.2:1"))
        assert sending.nodes.avoided() == {"10.0.0.2"}


@pytest.mark.parametrize("outlives", [True, False])
def test_a_call_counts_against_its_calculation_only_where_the_nanny_outlives_the_worker(
    tmp_path: Path, outlives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was cancelled, preempted or out of time takes both: else six of them would end a long calculation. But
    there is an end to doubt: some systems end the whole job of a call that takes too much memory."""
    monkeypatch.setattr(fates, "WAIT_SECONDS", 0.0)
    oracle, atoms = registry.load("emt"), bulk("Cu", cubic=True)
    with (
        open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database,
        socket.create_server(("127.0.0.1", 0)) as nanny,
    ):
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(atoms, fingerprint_hash(oracle))
        diary = Diary(record, Silent())
        diary.campaign = campaign
        losses = Losses(claims, Submission(Cluster(cast(Any, None)), claims), diary, lambda: None)
        address = f"tls://127.0.0.1:{nanny.getsockname()[1]}"
        if not outlives:
            nanny.close()
        session = claims.open_session(*OTHER)
        for _ in range(DOUBT + 1):
            attempt = claims.new_attempt(key, campaign, ("E",))
            assert claims.claim(attempt, session)
            assert losses.returned(Return(attempt, key, "killed", "KilledWorker", "tcp://10.0.0.2:1", address))
            assert losses.fates.held == {key}
            assert losses.judge() == {key}
            assert losses.fates.held == frozenset()
        a = schema.attempt.c
        with database.read() as connection:
            rows = connection.execute(select(a.failure, a.message).order_by(a.id)).all()
    assert {r.failure for r in rows} == {"worker lost"}
    assert [r.message.startswith(BLAMED) for r in rows] == [outlives] * DOUBT + [True]
