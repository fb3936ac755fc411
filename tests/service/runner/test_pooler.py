"""A campaign whose controller and workers share a pool of connections to PostgreSQL, which is restarted under it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pooler import pooled
from postgres import Server
from tiny import Decided, Tiny, law

pytestmark = pytest.mark.counts


def test_a_campaign_behind_pgbouncer_outlives_a_restart_of_the_server(
    server: Server, calm: Decided, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    with pooled(server) as url:
        tiny = tiny_in(tmp_path / "pooled", "[cluster]\nworkers = 4\n", url, heartbeat=5.0)
        process = tiny.run()
        tiny.reaches(5, process)
        acknowledged = tiny.observed()
        tiny.one_running(process)
        server.restart("fast")
        tiny.ended(process)
        counts = law(tiny, calm, acknowledged)
        print(f"behind PgBouncer, PostgreSQL restarted: {counts}")
        assert "failed: worker lost" not in counts.states  # no lease ended, though nobody could beat meanwhile
        assert "failed: crashed" not in counts.states
