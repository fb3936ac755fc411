"""A campaign through a real SLURM: jobs are cancelled under it, their wall time is shorter than it, nothing is lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest
import slurm
from required import absent
from tiny import Decided, Tiny, law, until

pytestmark = pytest.mark.counts

CLUSTER = """
[cluster]
kind = "slurm"
workers = 2
queue = "main"
memory = 900
wall_time = 0.01667
interface = "lo"
environment = ["export TINY_SECONDS=4"]
"""
"""Wall time: the one minute that SLURM gives at least; workers leave after some 50 s."""


@pytest.fixture(scope="module")
def node() -> Iterator[None]:
    if (why := slurm.missing()) is not None:
        absent("slurm", why)
    with slurm.single_node():
        yield


def test_a_campaign_outlives_its_jobs(
    node: None, server: postgres.Server, calm: Decided, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    began = time.monotonic()
    tiny = tiny_in(tmp_path / "slurm", CLUSTER, server.url)
    process = tiny.run()
    seen: dict[str, str] = {}
    cancelled: list[str] = []
    while process.poll() is None and time.monotonic() - began < 300:
        seen |= slurm.jobs()
        if len(cancelled) < 2 and tiny.finished() >= 1 + 2 * len(cancelled):
            tiny.one_running(process)
            running = [job for job, state in slurm.jobs().items() if state == "RUNNING" and job not in cancelled]
            if running and subprocess.run(["scancel", running[0]], check=False).returncode == 0:
                cancelled.append(running[0])
        time.sleep(0.2)
    tiny.ended(process, 200)
    acknowledged = tiny.observed()
    counts = law(tiny, calm, acknowledged)
    took = time.monotonic() - began
    print(f"SLURM: {len(seen)} jobs ({len(cancelled)} cancelled) in {took:.0f} s; {counts}")
    assert len(cancelled) == 2
    # what was running in the cancelled jobs was lost, and one more may just have begun there; workers whose time had
    # come left between two calls; none of it is the oracle's fault
    assert set(counts.states) <= {"finished", "superseded", "withdrawn", "failed: worker lost"}
    assert counts.states.get("failed: worker lost", 0) <= 4
    assert took > 60  # longer than a job may live
    assert len(seen) > 2 + len(cancelled)  # the cancelled were replaced, and so were those whose time had come
    assert until(lambda: not slurm.jobs(), 60)
    logs = [log for log in (tiny.folder / "jobs").iterdir() if log.suffix in (".out", ".err")]
    said = "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
    assert "tls://" in said  # every worker of a job came so
    assert "tcp://" not in said
    assert not list((tiny.folder / "jobs").glob(".dask*"))  # no key is left behind


def test_jobs_of_a_controller_that_was_killed_are_ended_by_the_next(
    node: None, server: postgres.Server, calm: Decided, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    """Their scheduler is gone with it. One of three waits in the queue, for SLURM has room for two; a job that waits
    and is cancelled by somebody is replaced too."""
    section = CLUSTER.replace("workers = 2", "workers = 3").replace("SECONDS=4", "SECONDS=6")
    tiny = tiny_in(tmp_path / "killed", section, server.url)
    first = tiny.run()
    tiny.reaches(2, first)
    assert until(lambda: len(slurm.jobs()) == 3, 60)
    old = set(slurm.jobs())
    first.kill()
    first.wait()
    acknowledged = tiny.observed()
    second = tiny.run()
    waiting: list[str] = []

    def renewed() -> bool:
        now = slurm.jobs()
        waiting[:] = [job for job, state in now.items() if state == "PENDING"]
        return old.isdisjoint(now) and len(now) == 3 and bool(waiting)

    assert until(renewed, 180)
    job = waiting[0]
    subprocess.run(["scancel", job], check=True)
    assert until(lambda: second.poll() is not None or (len(slurm.jobs()) == 3 and job not in slurm.jobs()), 120)
    assert second.poll() is None, "it ended before the job was replaced"
    tiny.ended(second)
    print(f"SLURM, controller killed: {law(tiny, calm, acknowledged)}")
    assert until(lambda: not slurm.jobs(), 60)
    assert not list((tiny.folder / "jobs").glob(".dask*"))


def test_an_adaptive_cluster_grows_with_the_work(
    node: None, server: postgres.Server, calm: Decided, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    """From no job that must be kept to as many as there is work for, never more than allowed."""
    section = CLUSTER.replace("wall_time = 0.01667", "wall_time = 0.1\nminimum = 0").replace("SECONDS=4", "SECONDS=2")
    tiny = tiny_in(tmp_path / "adaptive", section, server.url)
    process, began = tiny.run(), time.monotonic()
    most = 0
    while process.poll() is None and time.monotonic() - began < 300:
        most = max(most, len(slurm.jobs()))
        time.sleep(0.2)
    tiny.ended(process)
    print(f"SLURM, adaptive: {most} jobs at most; {law(tiny, calm)}")
    assert most == 2
    assert until(lambda: not slurm.jobs(), 60)


def test_a_job_that_slurm_refuses_is_told_at_once(
    node: None, server: postgres.Server, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    tiny = tiny_in(tmp_path / "refused", CLUSTER.replace('queue = "main"', 'queue = "nowhere"'), server.url)
    assert tiny.run().wait(timeout=120) == 2
    assert "slurm takes no job" in tiny.output()
    assert "partition" in tiny.output()
    wide = tiny_in(tmp_path / "wide", CLUSTER + "cores = 64\n", server.url)
    assert wide.run().wait(timeout=120) == 2
    assert "will never run these jobs (PartitionConfig)" in wide.output()  # SLURM takes them, and lets them wait
    assert until(lambda: not slurm.jobs(), 60)
    for campaign in (tiny, wide):
        assert "Traceback" not in campaign.output()
