"""Fifty workers and two thousand calculations: every label is there once, whatever the workers did to each other."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from farfield.db.engine import open_database
from farfield.service.runner.closing import closed_at_end

SCALE = Path(__file__).parents[3] / "benchmarks" / "scale"
WORKERS, COUNT = 50, 2000


def test_fifty_workers_and_two_thousand_calculations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In-process workers with an oracle that sleeps: hundreds of sandboxes would measure this machine's memory."""
    monkeypatch.syspath_prepend(str(SCALE))
    from runner_side import measure
    from sleeping import Inside, cells

    from farfield.service.runner import worker

    monkeypatch.setattr(worker, "Sandbox", Inside)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    cluster = LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        worker_dashboard_address=None,
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )
    with (
        closed_at_end(cluster),
        Client(cluster, set_as_default=False) as client,
        open_database(f"sqlite:///{tmp_path / 'scale.db'}", create=True) as database,
    ):
        found = measure(client, database, cells(COUNT), 0.05, 800, WORKERS, tmp_path)  # raises where a label is missing
    assert found.count == COUNT
    print(
        f"\n{found.rate:.0f} per second, utilisation {found.utilisation:.2f}, "
        f"controller {1e3 * found.controller / COUNT:.2f} ms per calculation, {found.peak:.0f} MB",
        file=sys.stderr,
    )
