"""Dask clusters from the campaign file: our own on this host, a running scheduler, or jobs of a batch system.

A cluster we start speaks TLS with temporary credentials (decisions B2), its workers are processes with one thread each
(B3), and a task that loses its worker is not run again by Dask: attempts are the controller's (A5).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farfield.errors import CampaignError, ConfigError
from farfield.service.campaign.cluster import BATCH, ClusterSection
from farfield.service.runner.addresses import check_address, security_of
from farfield.service.runner.closing import closed_at_end, end_at_once
from farfield.service.runner.cluster import Cluster, Local, Remote
from farfield.service.runner.fates import listens
from farfield.service.runner.host import this_host

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connect"]

CONNECT_SECONDS = 15.0
ONE_HOST = "SQLite serves one host only; give a PostgreSQL database as database.url"


@contextmanager
def connect(
    section: ClusterSection, *, one_host: bool, base: Path | None = None, folder: Path | None = None
) -> Iterator[Cluster]:
    """The cluster that `section` describes; what we started ends with the context.

    `one_host`: the database is SQLite, so workers on another host are refused (decisions A8). Paths count from `base`;
    logs and credentials of batch jobs go to `folder` (both: the working folder). Raises ConfigError for what is not
    allowed, CampaignError when nobody answers, no worker offers what a call asks, or the batch system refuses a job.
    """
    import dask
    import distributed  # noqa: F401  its defaults come first, or they would go with our settings

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.daemon": False,  # the sandbox starts processes of its own
        "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS:g}s",
        "distributed.admin.low-level-log-length": 1000,
        # of a batch job whose nanny is starting its worker anew; those that have ended are found in the system's list
        "distributed.deploy.lost-worker-timeout": "60s" if section.where in BATCH else "5s",
        # threads of an oracle are its own affair; nannies would set 1 whatever the call may use
        **{f"distributed.nanny.pre-spawn-environ.{v}_NUM_THREADS": section.cores for v in ("OMP", "OPENBLAS", "MKL")},
    }
    with dask.config.set(settings):
        if section.where == "scheduler":
            with _remote(section, base or Path.cwd(), one_host=one_host) as cluster:
                yield cluster
        elif section.where in BATCH:
            from farfield.service.runner.batch import batch

            if one_host:
                raise ConfigError(f"jobs of {section.kind} run on other hosts and {ONE_HOST}", key="database.url")
            with ExitStack() as stack:
                with _interrupts_held() as held:
                    jobs = stack.enter_context(batch(section, folder or Path.cwd()))
                held.deliver()
                yield jobs
        else:
            _check_local(section)
            with _local(section) as cluster:
                yield cluster


@contextmanager
def _local(section: ClusterSection) -> Iterator[Cluster]:
    from distributed import Client, LocalCluster
    from distributed.security import Security

    security = Security.temporary()
    with _interrupts_held() as held:
        cluster = LocalCluster(
            n_workers=section.workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls://",
            security=security,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            memory_limit=0,  # the sandbox watches memory; Dask's limit would kill the worker with it
            silence_logs=logging.CRITICAL,
            resources=section.resources or None,
        )

    def client() -> Client:
        return Client(cluster, security=security, set_as_default=False)

    with closed_at_end(cluster):
        local = Local(client(), cluster, section.workers, section.resources, client)
        try:
            held.deliver()
            yield local
        except BaseException:
            end_at_once(cluster)
            raise
        finally:
            local.client.close()


@contextmanager
def _remote(section: ClusterSection, base: Path, *, one_host: bool) -> Iterator[Cluster]:
    from distributed import Client

    address = str(section.scheduler)
    check_address(address, insecure=section.insecure)
    security = security_of(section, base)

    def client(timeout: float = 2.0) -> Client:
        return Client(address, timeout=timeout, security=security, set_as_default=False)

    try:
        first = client(CONNECT_SECONDS)
    except (OSError, TypeError, ValueError, RuntimeError) as fault:
        raise CampaignError(
            f"no Dask scheduler answers at {address} ({_brief(fault)}); start one with `dask scheduler{_tls(address)}` "
            f"and workers with `{_worker(section)}`"
        ) from None
    cluster = Remote(first, address, client, section.resources)
    try:
        cluster.reruns = _allowed_failures(first, address) > 0
        _check_workers(first, section, one_host=one_host)
        nannies = [str(facts["nanny"]) for facts in cluster.workers().values() if facts.get("nanny")]
        cluster.apart = any(listens(nanny) for nanny in nannies[:3])  # else nobody can be asked what became of a worker
        yield cluster
    finally:
        cluster.client.close()


def failures_of(dask_scheduler: Any) -> int:
    """How often the scheduler runs a call again whose worker died. Runs there."""
    return int(dask_scheduler.allowed_failures)


def _allowed_failures(client: Client, address: str) -> int:
    try:
        return int(client.run_on_scheduler(failures_of))
    except (ImportError, AttributeError) as fault:
        raise CampaignError(
            f"the scheduler at {address} cannot read our calls ({_brief(fault)}): start it in an environment with this "
            "version of farfield, as its workers"
        ) from None


def _check_workers(client: Client, section: ClusterSection, *, one_host: bool) -> None:
    address = section.scheduler
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise CampaignError(
            f"the scheduler at {address} has no workers yet; where none wait in a queue start some with "
            f"`{_worker(section)}`"
        ) from None
    workers = client.scheduler_info(n_workers=-1)["workers"]
    wide = [w for w, facts in workers.items() if int(facts["nthreads"]) != 1]
    if wide:
        raise CampaignError(f"the worker {wide[0]} runs several threads; start workers with --nthreads 1")
    if asked := section.resources:
        offers = [facts.get("resources") or {} for facts in workers.values()]
        if not any(all(offer.get(name, 0) >= count for name, count in asked.items()) for offer in offers):
            wanted = _offer(section)
            best = {name: max((o.get(name, 0) for o in offers), default=0) for name in asked}
            seen = " ".join(f"{name}={count:g}" for name, count in best.items())
            raise CampaignError(
                f"a call asks for {wanted} and no worker at {address} offers that (at most {seen}); start workers with "
                f"`{_worker(section)}`, or lower cluster.cores and cluster.gpus"
            )
    if one_host:
        boot = this_host()[1].partition("/")[0]
        far = [w for w, (_, life) in client.run(this_host).items() if life.partition("/")[0] != boot]
        if far:
            raise ConfigError(f"the worker {far[0]} is on another host and {ONE_HOST}", key="database.url")


def _worker(section: ClusterSection) -> str:
    """The command that starts a worker for `section`."""
    offer = f' --resources "{_offer(section)}"' if section.resources else ""
    return f"dask worker {section.scheduler} --nthreads 1 --memory-limit 0{offer}{_tls(str(section.scheduler))}"


def _offer(section: ClusterSection) -> str:
    return " ".join(f"{name}={count:g}" for name, count in section.resources.items())


def _tls(address: str) -> str:
    return " --tls-ca-file ... --tls-cert ... --tls-key ..." if address.startswith("tls:") else ""


def _check_local(section: ClusterSection) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if section.cores > cores:
        raise ConfigError(
            f"a call asks for {section.cores} cores and this host has {cores}; lower cluster.cores or use another "
            "cluster.kind",
            key="cluster.cores",
        )
    if section.gpus:
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = len(list(Path("/dev").glob("nvidia[0-9]*"))) if named is None else len(named.split(",")) * bool(named)
        if section.gpus > count or section.workers > 1:
            raise ConfigError(
                f"calls ask for {section.gpus} GPUs each, this host shows {count}, and workers of a local cluster "
                "would share them; set cluster.workers = 1, or start a `dask worker` for each GPU with its own "
                "CUDA_VISIBLE_DEVICES and name their scheduler",
                key="cluster.gpus",
            )


class _Held:
    """Interrupts that came while a cluster started."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def deliver(self) -> None:
        """Raise KeyboardInterrupt where one came."""
        if self.numbers:
            raise KeyboardInterrupt


@contextmanager
def _interrupts_held() -> Iterator[_Held]:
    """Ctrl-C reaches all processes of a terminal, and only the controller may act on it, once its cluster stands.

    Threads begun here block SIGINT, and so do the processes they start, then and later: all the cluster's workers.
    """
    held = _Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    resource_tracker.ensure_running()  # its start would unblock the signal again
    handler = signal.signal(signal.SIGINT, lambda number, _: held.numbers.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield held
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)


def _brief(fault: BaseException) -> str:
    return str(fault).strip().splitlines()[0][:120] if str(fault).strip() else type(fault).__name__
