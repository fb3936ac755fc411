"""Clusters: ours is encrypted, its workers have one thread each."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
from multiprocessing import spawn
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import pytest
from daemons import daemons
from distributed import LocalCluster
from distributed.core import Status
from processes import gone
from tiny import until

from farfield.errors import CampaignError
from farfield.service.campaign.config import ClusterSection
from farfield.service.runner import cluster as cluster_module
from farfield.service.runner.cluster import Local
from farfield.service.runner.clusters import connect


def test_a_local_cluster_is_encrypted_with_one_thread_per_process() -> None:
    with connect(ClusterSection(workers=2), one_host=True) as cluster:
        info = cluster.client.scheduler_info(n_workers=-1)
        assert cluster.slots() == 2
        assert [w["nthreads"] for w in info["workers"].values()] == [1, 1]
        assert all(address.startswith("tls://127.0.0.1:") for address in [info["address"], *info["workers"]])
        pids = {
            cluster.client.submit(os.getpid, key=f"who-{k}", pure=False, workers=[w]).result(timeout=30)
            for k, w in enumerate(info["workers"])
        }
        assert len(pids) == 2
        assert os.getpid() not in pids
        for pid in pids:  # as a terminal's Ctrl-C would: workers leave it to the controller
            os.kill(pid, signal.SIGINT)
        assert cluster.client.submit(os.getpid, key="after", pure=False).result(timeout=30) in pids
        assert stranger_hears(urlsplit(info["address"]).port or 0) == b""


class Interrupted(LocalCluster):
    """A local cluster during whose start somebody presses Ctrl-C."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        super().__init__(*args, **kwargs)


def test_ctrl_c_while_the_cluster_starts_is_heard_when_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.LocalCluster", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), connect(ClusterSection(workers=1), one_host=True):
            raise AssertionError("the interrupt was lost")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


class Endless(LocalCluster):
    """A local cluster that never comes to its end, as when a nanny misses that of its worker."""

    async def _close(self) -> None:
        await asyncio.sleep(3600)


def test_a_cluster_that_does_not_close_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.LocalCluster", Endless)
    monkeypatch.setattr("farfield.service.runner.closing.CLOSE_SECONDS", 1.0)
    with connect(ClusterSection(workers=2), one_host=True) as cluster:
        assert isinstance(cluster, Local)
        pids = [nanny.pid for nanny in cluster.cluster.workers.values()]
        assert all(pids)
    assert gone(pids)
    nannies = list(cluster.cluster.workers.values())
    assert until(lambda: {n.status for n in nannies} == {Status.closed})  # and start no other in their place
    monkeypatch.setattr(Endless, "_close", LocalCluster._close)
    cluster.cluster.close(timeout=300)


def stranger_hears(port: int) -> bytes:
    """What the scheduler says to a peer who speaks TLS but has no certificate of ours."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain) as encrypted,
        ):
            return encrypted.recv(1)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_a_dead_worker_gives_its_task_back_at_once() -> None:
    with connect(ClusterSection(workers=1), one_host=True) as cluster:
        # its nanny may take its time to start another
        with dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"}):
            future = cluster.client.submit(os._exit, 3, key="dies", pure=False)
            fault = future.exception(timeout=60)
            assert type(fault).__name__ == "KilledWorker"
            second = cluster.client.submit(os.getpid, key="lives", pure=False).result(timeout=120)
        os.kill(second, signal.SIGINT)
        assert cluster.client.submit(os.getpid, key="still", pure=False).result(timeout=60) == second


def test_nobody_at_the_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farfield.service.runner.clusters.CONNECT_SECONDS", 0.5)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    section = ClusterSection(scheduler=f"tcp://127.0.0.1:{port}")
    with (
        pytest.raises(CampaignError, match=r"dask worker tcp://\S+ --nthreads 1") as fault,
        connect(section, one_host=True),
    ):
        pass
    assert "\n" not in str(fault.value)


def test_a_local_cluster_puts_back_a_worker_whose_nanny_gave_it_up() -> None:
    with connect(ClusterSection(workers=2), one_host=True) as cluster:
        assert isinstance(cluster, Local)
        (first, nanny), *_ = cluster.cluster.workers.items()
        cluster.cluster.sync(nanny.close)
        del cluster.cluster.workers[first]  # as Dask does where a worker takes too long to come back
        assert until(lambda: len(cluster.client.scheduler_info(n_workers=-1)["workers"]) == 1)
        cluster.tend()
        assert until(lambda: len(cluster.client.scheduler_info(n_workers=-1)["workers"]) == 2)


def test_a_local_cluster_that_cannot_start_workers_ends_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farfield.service.runner.cluster.BARREN_SECONDS", 1.0)
    before = spawn.get_executable()
    with connect(ClusterSection(workers=1), one_host=True) as cluster:
        spawn.set_executable(b"/bin/false")  # as if Python or our code had been uninstalled
        try:
            for nanny in cluster.cluster.workers.values():  # type: ignore[attr-defined]
                os.kill(nanny.pid, signal.SIGKILL)
            with pytest.raises(CampaignError, match="cannot start"):
                assert until(lambda: bool(cluster.tend()) and False, 60)
        finally:
            spawn.set_executable(before)


@pytest.mark.parametrize("status", ["closed", "connecting"])
def test_a_client_that_has_given_up_its_own_scheduler_is_replaced(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host that is overrun the connection within one process breaks too; the run would wait for ever. A fault in
    the midst of Dask's own attempt to come back leaves its client connecting for good."""
    monkeypatch.setattr(cluster_module, "HANGING_SECONDS", -1.0)
    with connect(ClusterSection(workers=1), one_host=True) as cluster:
        if status == "closed":
            cluster.client.close()
        else:
            cluster.client.status = status
        assert cluster.slots() == 0
        cluster.tend()
        assert cluster.slots() == 1
        future = cluster.submit(sum, [1, 2], "three")
        assert future is not None
        assert future.result(timeout=120) == 3


def test_a_scheduler_that_comes_back_is_found_again(tmp_path: Path) -> None:
    with daemons(tmp_path / "dask") as site:
        site.worker()
        site.registered()
        with connect(ClusterSection(scheduler=site.address), one_host=True) as cluster:
            said: list[str] = []

            def tended(what: str) -> bool:
                said.extend(cluster.tend())
                return any(what in text for text in said)

            pending = cluster.submit(time.sleep, 60, "long")
            site.scheduler.held = True
            site.scheduler.kill()
            assert until(lambda: tended("is away; the campaign waits"))
            assert cluster.slots() == 0
            assert until(lambda: pending.status != "pending", 30)  # nobody waits for it for ever
            assert until(lambda: cluster.client.status == "closed")  # Dask's client has given up
            site.scheduler.held = False
            assert until(lambda: tended("answers again"))
            assert cluster.submit(sum, [1, 2], "three").result(timeout=120) == 3
            assert sum("is away" in text for text in said) == 1


def test_a_scheduler_started_anew_between_two_looks_is_told(tmp_path: Path) -> None:
    with daemons(tmp_path / "dask") as site:
        site.worker()
        site.registered()
        with connect(ClusterSection(scheduler=site.address), one_host=True) as cluster:
            assert cluster.tend() == []
            site.scheduler.held = True
            site.scheduler.kill()
            assert until(lambda: not cluster.connected)
            site.scheduler.held = False

            def back() -> bool:
                cluster._renew()  # says nothing, and nobody looks meanwhile
                return cluster.connected

            assert until(back)
            said: list[str] = []
            assert until(
                lambda: said.extend(cluster.tend()) or any("started anew and answers again" in s for s in said)
            )
            assert until(lambda: len(cluster.workers()) == 1)
            assert sum("started anew" in text for text in [*said, *cluster.tend()]) == 1
