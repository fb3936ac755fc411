"""Attempts on their way through Dask, on real workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ase.build import bulk
from tiny import until

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.oracles import registry
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.campaign.config import CampaignConfig, ClusterSection
from farfield.service.runner.clusters import connect
from farfield.service.runner.orders import order_for
from farfield.service.runner.submission import Submission


def test_what_is_bound_to_workers_that_are_gone_is_taken_back_and_sent_elsewhere(tmp_path: Path) -> None:
    config = CampaignConfig.from_mapping({"run": {"folder": str(tmp_path)}}, base=tmp_path)
    oracle = registry.load("emt")
    own, atoms, kinds = fingerprint_hash(oracle), bulk("Cu", cubic=True), ("E", "F")
    with (
        open_database(config.database_url, create=True) as database,
        connect(ClusterSection(workers=2), one_host=True) as cluster,
    ):
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(atoms, own)
        sending = Submission(cluster, claims)
        silent, doomed = sorted(cluster.workers())
        sending.nodes.silent(silent)
        seen = dict(cluster.workers())
        pid = cluster.client.submit(os.getpid, key="who", pure=False, workers=[doomed]).result(timeout=30)
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: doomed not in cluster.client.scheduler_info(n_workers=-1)["workers"], 30)
        cluster._facts = (time.monotonic() + 60, seen)  # what the scheduler said a moment ago

        def send() -> int:
            return sending.send(lambda a: order_for(config, own, a, key, atoms, kinds, {}), key, campaign, kinds)

        first = send()
        assert sending.returns(1.0) == []
        assert sending.stranded() == []  # nobody knows yet
        cluster.gone(doomed)
        assert sending.stranded() == [key]
        assert (sending.in_flight, claims.states([first])) == (0, {first: "withdrawn"})
        second = send()  # nobody is left to prefer
        assert until(lambda: [r.attempt for r in sending.returns(1.0)] == [second], 60)
        assert claims.states([second]) == {second: "finished"}
