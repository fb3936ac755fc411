"""Many Dask workers in one process, one thread each, with few database connections between them.

    python benchmarks/scale/farm.py ADDRESS COUNT

Each is a worker of its own to the scheduler, to the runner and to the database (a session, a heartbeat, claims). What
they share is the interpreter and, as behind PgBouncer, a pool of connections.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import dask
from distributed import Worker
from sleeping import Inside

from farfield.db import engine
from farfield.service.runner import worker

CONNECTIONS = 8
QUIET: dict[str, Any] = {
    "distributed.admin.system-monitor.interval": "1d",  # each worker would count the open files of the one process
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.tick.interval": "60s",  # each worker would look at its loop fifty times a second
    "distributed.admin.tick.cycle": "60s",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.allowed-failures": 0,
}
"""Of Dask, for runner and bare tasks alike: what watches a process does so once, not a thousand times."""

_opened: dict[str, engine.Database] = {}
_lock = threading.Lock()


def shared(url: str) -> engine.Database:
    """One `Database` for all workers of this process."""
    with _lock:
        if url not in _opened:
            _opened[url] = engine.open_database(url)
            for pooled in (_opened[url].engine, _opened[url].relaxed):
                if pooled.dialect.name == "postgresql":
                    pooled.pool._pool.maxsize = CONNECTIONS  # type: ignore[attr-defined]
                    pooled.pool._max_overflow = 0  # type: ignore[attr-defined]
                    pooled.pool._timeout = 600.0  # type: ignore[attr-defined]
        return _opened[url]


def prepare() -> None:
    """Let the workers of this process sleep inside and share their connections."""
    worker.Sandbox = Inside  # type: ignore[misc, assignment]
    worker.open_database = shared  # type: ignore[assignment]
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    dask.config.set(QUIET)


async def serve(address: str, count: int) -> None:
    workers = [
        await Worker(
            address, nthreads=1, memory_limit=0, dashboard=False, dashboard_address=None, name=f"{os.getpid()}-{k}"
        )
        for k in range(count)
    ]
    await asyncio.gather(*(w.finished() for w in workers))


if __name__ == "__main__":
    threading.stack_size(512 * 1024)
    prepare()
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
