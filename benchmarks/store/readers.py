"""A reader beside a writer: how long a status takes while another process inserts without a pause."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from sqlalchemy import func, select
from workload import fresh, source

from farfield.db import schema
from farfield.db.engine import open_database

READS = 2000


def latencies(folder: Path) -> dict[str, float]:
    """Milliseconds of a small read (median, 99th percentile, worst), and frames per second of the writer meanwhile."""
    url = f"sqlite:///{fresh(folder)}"
    o = schema.observation.c
    with open_database(url, create=True) as database:
        row = source(database)
        writer = subprocess.Popen([sys.executable, __file__, url, str(row)], stdout=subprocess.PIPE, text=True)
        if writer.stdout is None or writer.stdout.readline() != "begun\n":
            raise RuntimeError("the writing process did not begin")
        took = []
        began, before = time.perf_counter(), _count(database)
        for _ in range(READS):
            moment = time.perf_counter()
            with database.read() as connection:
                connection.scalar(select(func.count()).where(o.kind == "E", o.value.between(0.0, 0.01)))
            took.append(1e3 * (time.perf_counter() - moment))
            time.sleep(0.002)
        rate = (_count(database) - before) / (time.perf_counter() - began)
        writer.kill()
        writer.communicate()
    return {
        "median": float(np.median(took)),
        "p99": float(np.quantile(took, 0.99)),
        "worst": max(took),
        "frames per second": rate,
    }


def _count(database) -> int:  # type: ignore[no-untyped-def]
    with database.read() as connection:
        return int(connection.scalar(select(func.max(schema.attempt.c.id))) or 0)


def _write(url: str, row: int) -> None:
    """Insert small blocks for ever."""
    from insertion import drain
    from workload import frames

    with open_database(url) as database:
        drain(database, row, list(frames(200)))
        print("begun", flush=True)
        at = 200
        while True:
            drain(database, row, list(frames(20, at)))
            at += 20


if __name__ == "__main__":
    _write(sys.argv[1], int(sys.argv[2]))
