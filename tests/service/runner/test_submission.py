"""Attempts on their way through Dask, on real workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from ase.build import bulk
from tiny import until

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.processes import process_start
from farfield.db.record import Record
from farfield.errors import CampaignError
from farfield.oracles import registry
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.campaign.config import CampaignConfig, ClusterSection
from farfield.service.runner.clusters import connect
from farfield.service.runner.host import this_host
from farfield.service.runner.orders import order_for
from farfield.service.runner.submission import Submission


def test_what_is_bound_to_workers_that_are_gone_is_taken_back_and_sent_elsewhere(tmp_path: Path) -> None:
    config = CampaignConfig.from_mapping({"run": {"folder": str(tmp_path)}}, base=tmp_path)
    oracle = registry.load("emt")
    own, atoms = fingerprint_hash(oracle), bulk("Cu", cubic=True)
    with (
        open_database(config.database_url, create=True) as database,
        connect(ClusterSection(workers=2), one_host=True) as cluster,
    ):
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(atoms, own)
        session = claims.open_session(*this_host(), os.getpid(), process_start(os.getpid()) or 0.0)
        sending = Submission(cluster, claims)
        silent, doomed = sorted(cluster.workers())
        sending.nodes.silent(silent, [])
        seen = dict(cluster.workers())
        pid = cluster.client.submit(os.getpid, key="who", pure=False, workers=[doomed]).result(timeout=30)
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: doomed not in cluster.client.scheduler_info(n_workers=-1)["workers"], 30)
        cluster._facts = (time.monotonic() + 60, seen)  # what the scheduler said a moment ago

        def send(kinds: tuple[str, ...] = ("E", "F")) -> int:
            return sending.send(
                lambda a: order_for(config, own, a, key, atoms, kinds, {}), key, campaign, kinds, session
            )

        first = send()
        assert sending.returns(1.0) == []
        assert sending.stranded() == []  # nobody knows yet
        cluster.gone(doomed)
        assert sending.stranded() == [key]
        assert (sending.in_flight, claims.states([first])) == (0, {first: "withdrawn"})
        second = send()  # nobody is left to prefer
        assert until(lambda: [r.attempt for r in sending.returns(1.0)] == [second], 60)
        assert claims.states([second]) == {second: "finished"}
        third = send(("V",))
        assert until(lambda: claims.states([third]) != {third: "waiting"}, 60)  # else Dask drops it with its client
        cluster.client.close()  # as a client does that has lost its scheduler
        with pytest.raises(CampaignError, match="the Dask scheduler is away"):
            send(("V",))
        assert claims.states([third + 1]) == {third + 1: "withdrawn"}  # nobody would ever send it
        sending.give_up([third])  # nor is there anybody who could be told
        sending.withdraw_waiting()
        assert sending.in_flight == 0
        assert claims.states([third]) in ({third: "running"}, {third: "finished"})  # its worker has it
