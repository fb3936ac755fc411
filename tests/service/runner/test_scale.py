"""Fifty workers and two thousand calculations: every label is there once, whatever the workers did to each other."""

from __future__ import annotations

import logging
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster
from postgres import Server

from farfield.db.engine import open_database
from farfield.service.runner.closing import closed_at_end

SCALE = Path(__file__).parents[3] / "benchmarks" / "scale"
WORKERS, COUNT = 50, 2000
pytestmark = pytest.mark.counts


def test_fifty_workers_and_two_thousand_calculations(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In-process workers with an oracle that sleeps: hundreds of sandboxes would measure this machine's memory."""
    monkeypatch.syspath_prepend(str(SCALE))
    from farm import QUIET, shared
    from runner_side import measure
    from sleeping import Inside, cells

    from farfield.service.runner import worker

    monkeypatch.setattr(worker, "Sandbox", Inside)
    monkeypatch.setattr(worker, "open_database", shared)  # few connections among them
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(QUIET):  # what watches a process would do so fifty times
        cluster = LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",  # None would ask for Dask's fixed port, which another test may hold
            worker_dashboard_address=None,
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
    with (
        closed_at_end(cluster),
        Client(cluster, set_as_default=False) as client,
        open_database(server.url, create=True) as database,
    ):
        found = measure(client, database, cells(COUNT), 0.05, 800, WORKERS, tmp_path)  # raises where a label is missing
    assert found.count == COUNT
    print(
        f"{WORKERS} workers, {COUNT} calculations: {found.rate:.0f} per second, utilisation {found.utilisation:.2f}, "
        f"controller {1e3 * found.controller / COUNT:.2f} ms per calculation, {found.peak:.0f} MB"
    )
