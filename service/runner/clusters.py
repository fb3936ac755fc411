"""Dask clusters: one of our own on this host, or a running scheduler.

A cluster we start speaks TLS with temporary credentials (decisions B2) on the loopback, its workers are processes with
one thread each (B3), and a task that loses its worker is not run again by Dask: attempts are the controller's (A5).
"""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from farfield.errors import CampaignError, ConfigError
from farfield.service.campaign.config import ClusterSection
from farfield.service.runner.host import this_host

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["check_address", "connect", "slots"]

CONNECT_SECONDS = 15.0


@contextmanager
def connect(section: ClusterSection, *, one_host: bool) -> Iterator[Client]:
    """A client on the cluster that `section` describes; a local cluster ends with the context.

    `one_host`: the database is SQLite, so workers on another host are refused (decisions A8).
    Raises ConfigError for an address that is not allowed, CampaignError when nobody answers there.
    """
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.daemon": False,  # the sandbox starts processes of its own
        "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS:g}s",
        "distributed.admin.low-level-log-length": 1000,
    }
    with dask.config.set(settings):
        if section.scheduler is None:
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
                )
            with cluster, Client(cluster, security=security, set_as_default=False) as client:
                if held:
                    raise KeyboardInterrupt
                yield client
            return
        check_address(section.scheduler, insecure=section.insecure)
        try:
            client = Client(section.scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TypeError, ValueError, RuntimeError) as fault:
            raise CampaignError(
                f"no Dask scheduler answers at {section.scheduler} ({_brief(fault)}); start one with `dask scheduler` "
                "and workers with `dask worker --nthreads 1`"
            ) from None
        with client:
            _check_workers(client, section.scheduler, one_host=one_host)
            yield client


def check_address(address: str, *, insecure: bool) -> None:
    """Refuse what is not encrypted, unless it stays on this host or `insecure` is said. Raises ConfigError."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        known = parts.scheme in ("tcp", "tls", "ws", "wss", "ucx") and parts.port is not None
    except ValueError:
        known, host = False, ""
    if not known or not host:
        raise ConfigError(f"{address!r} is not a scheduler address; write tls://host:8786", key="cluster.scheduler")
    if parts.scheme in ("tls", "wss") or insecure or _is_loopback(host):
        return
    raise ConfigError(
        f"{address} is not encrypted: anybody on the network could run code there; use tls:// or set "
        "cluster.insecure = true",
        key="cluster.scheduler",
    )


def slots(client: Client) -> int:
    """How many calls can run at a time: the threads of all workers, at least one."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return max(1, sum(int(w["nthreads"]) for w in workers))


def _check_workers(client: Client, address: str, *, one_host: bool) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise CampaignError(
            f"the scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`"
        ) from None
    workers = client.scheduler_info(n_workers=-1)["workers"]
    wide = [w for w, facts in workers.items() if int(facts["nthreads"]) != 1]
    if wide:
        raise CampaignError(f"the worker {wide[0]} runs several threads; start workers with --nthreads 1")
    if one_host:
        here = this_host()
        far = [w for w, host in client.run(this_host).items() if tuple(host) != here]
        if far:
            raise ConfigError(
                f"the worker {far[0]} is on another host and SQLite serves one host only; "
                "give a PostgreSQL database as database.url",
                key="database.url",
            )


@contextmanager
def _interrupts_held() -> Iterator[list[int]]:
    """Ctrl-C reaches all processes of a terminal, and only the controller may act on it, once its cluster stands.

    Threads begun here block SIGINT, and so do the processes they start, then and later: all the cluster's workers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    resource_tracker.ensure_running()  # its start would unblock the signal again
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield held
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        try:
            return all(ipaddress.ip_address(a[4][0]).is_loopback for a in socket.getaddrinfo(host, None))
        except OSError:
            return False


def _brief(fault: BaseException) -> str:
    return str(fault).strip().splitlines()[0][:120] if str(fault).strip() else type(fault).__name__
