"""The runner at scale: many workers that sleep, many calculations, against Dask with a bare driver in the same run.

    python benchmarks/scale --workers 1000 --count 100000 --bare 8000 --seconds 25
    python benchmarks/scale --workers 50 --count 2000 --write no

Prints rates, ratios, overhead per calculation, utilisation and memory; --write adds the run to docs/scale.md as a row.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "support")]

import dask
import psutil
from bare import measure_bare, measure_empty
from distributed import Client, LocalCluster
from farm import QUIET
from page import Row, add
from runner_side import measure
from server import cpu, postgres
from sleeping import MEAN, cells

from farfield.db.engine import open_database
from farfield.service.runner.submission import AHEAD


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--count", type=int, default=2000, help="calculations of the runner")
    parser.add_argument("--bare", type=int, help="tasks of the bare run; default as many")
    parser.add_argument("--farms", type=int, help="processes that the workers live in; default one for 125")
    parser.add_argument("--seconds", type=float, help="mean time of a call; default such that 30 end per second")
    parser.add_argument("--decision", type=int, default=25000, help="calculations per decision")
    parser.add_argument("--sqlite", action="store_true", help="SQLite in place of PostgreSQL")
    parser.add_argument("--folder", help="where the database lies; default a temporary folder")
    parser.add_argument("--write", choices=("yes", "no"), default="no", help="add the run to docs/scale.md")
    o = parser.parse_args()
    seconds = o.seconds or o.workers / 30
    scale = seconds / MEAN
    dask.config.set(QUIET)
    with (
        tempfile.TemporaryDirectory(prefix="farfield-scale-", dir=o.folder) as text,
        _database(o, text) as (url, server),
    ):
        folder, work = Path(text), cells(max(o.count, o.bare or 0))
        with _cluster(o.workers, o.farms or max(2, o.workers // 125)) as (client, farms):
            ahead = AHEAD * o.workers
            none = measure_empty(client, min(o.count, 5000), ahead) / min(o.count, 5000)
            print(f"empty tasks {1 / none:.0f} per second", flush=True)
            count = o.bare or o.count
            # the longest first, as the runner's are: at the end no worker waits long for another
            slept, bare = measure_bare(client, url, sorted(work[:count], key=len, reverse=True), scale, ahead)
            print(f"bare {count / bare:.1f} per second, utilisation {slept / (bare * o.workers):.2f}", flush=True)
            with open_database(url, create=True) as database:
                before, stored = _cpu(farms), cpu(server) if server else 0.0
                found = measure(client, database, work[: o.count], scale, o.decision, o.workers, folder)
                row = Row(
                    workers=o.workers,
                    count=o.count,
                    database=database.dialect,
                    mean=found.slept / found.count,
                    rate=found.rate,
                    utilisation=found.utilisation,
                    bare_rate=count / bare,
                    bare_utilisation=slept / (bare * o.workers),
                    empty_rate=1 / none,
                    controller=1e3 * found.controller / found.count,
                    worker=1e3 * (_cpu(farms) - before) / found.count,
                    server=1e3 * (cpu(server) - stored) / found.count if server else None,
                    peak=found.peak,
                    load=os.getloadavg()[2],
                )
    print(row.text())
    if o.write == "yes":
        add(row)
    return 0 if row.ratio >= 0.7 else 1


@contextmanager
def _database(o: argparse.Namespace, folder: str) -> Iterator[tuple[str, psutil.Process | None]]:
    """Its URL, and its server where it has one."""
    if o.sqlite:
        yield f"sqlite:///{folder}/scale.db", None
        return
    with postgres(o.folder) as (url, server):
        open_database(url, create=True).close()
        yield url, server


@contextmanager
def _cluster(workers: int, farms: int) -> Iterator[tuple[Client, list[psutil.Process]]]:
    """A scheduler in this process and `workers` workers in `farms` others."""
    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        share = [workers // farms + (k < workers % farms) for k in range(farms)]
        started = [
            subprocess.Popen([sys.executable, str(HERE / "farm.py"), cluster.scheduler_address, str(n)]) for n in share
        ]
        try:
            client.wait_for_workers(workers, timeout=600)
            yield client, [psutil.Process(p.pid) for p in started]
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(timeout=60)
            time.sleep(0.1)


def _cpu(farms: list[psutil.Process]) -> float:
    """CPU seconds of the workers' processes."""
    return sum(t.user + t.system for t in (p.cpu_times() for p in farms))


if __name__ == "__main__":
    sys.exit(main())
