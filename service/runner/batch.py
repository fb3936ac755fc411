"""Workers as jobs of SLURM, PBS, SGE or LSF, through dask-jobqueue: submitted, counted, replaced.

One job is one worker with one thread, and one oracle call at a time with all of the job's cores. The scheduler lives in
this process and speaks TLS with temporary credentials, which lie in the run folder, readable by its owner, as long as
the cluster lives.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farfield.errors import CampaignError, ConfigError
from farfield.service.campaign.cluster import ClusterSection
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.jobscript import arguments

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Batch", "batch"]

LISTING: dict[str, list[str]] = {
    "slurm": ["squeue", "--me", "--noheader", "--format=%A %r"],
    "pbs": ["qselect"],
    "sge": ["qstat"],
    "lsf": ["bjobs", "-noheader", "-o", "jobid"],
}
"""What lists the ids of this user's jobs. A job without a worker whose id is missing there twice is gone."""
HOPELESS = frozenset(
    {
        "AccountNotAllowed",
        "BadConstraints",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSNotAllowed",
    }
)
"""Reasons that SLURM gives for jobs that it took and will never run."""
LISTING_SECONDS = 15.0
IDLE_SECONDS = 300
"""How long a job of an adaptive cluster may be without work before it is given back."""
STILLBORN = 3
"""Jobs per slot that end before their worker has come, none coming in between, after which the script is held wrong."""


class Batch(Cluster):
    """Jobs of a batch system, as many as `section` asks for or, where it is adaptive, as there is work for."""

    def __init__(self, client: Client, cluster: Any, section: ClusterSection, logs: Path) -> None:
        super().__init__(client, section.resources)
        self.cluster, self.section, self.logs = cluster, section, logs
        self._had_workers = False
        self._listed = 0.0
        self._missed: set[str] = set()
        self._stillborn = 0
        self._refused = ""

    def slots(self) -> int:
        """So many calls may be under way once all jobs run; those that wait in the queue count."""
        return self.section.workers if self.connected else 0

    def start(self) -> None:
        """Submit the first jobs. Raises CampaignError with what the batch system says where it refuses."""
        if self.section.minimum is None:
            self.cluster.scale(jobs=self.section.workers)
        else:
            self.cluster.adapt(
                minimum_jobs=self.section.minimum,
                maximum_jobs=self.section.workers,
                interval="5s",
                wait_count=IDLE_SECONDS // 5,
                target_duration="1ms",  # a call fills a job, however long it takes
            )
            self.cluster.scale(jobs=max(1, self.section.minimum))
        self._submit()

    def tend(self) -> list[str]:
        """Replace jobs that are gone: ended, cancelled in the queue, or killed with their worker."""
        said = super().tend()
        if self.workers():
            self._stillborn = 0
        self._drop_missing()
        before = len(self.cluster.workers)
        try:
            self._submit()
        except CampaignError as fault:
            news = str(fault) != self._refused
            self._refused = str(fault)
            return [*said, f"{fault}; it is tried again"] if news else said
        self._refused = ""
        new = len(self.cluster.workers) - before
        return [*said, f"jobs submitted in place of lost ones: {new}"] if new > 0 else said

    def _submit(self) -> None:
        """Submit what is wanted and not there; `scale` alone does not replace a job."""

        async def all_there() -> list[str]:
            self._forget(lambda job: job.refused is not None)
            await self.cluster
            return self._forget(lambda job: job.refused is not None)

        try:
            refused = self.cluster.sync(all_there, callback_timeout=120)
        except TimeoutError:
            refused = ["no answer within 120 s"]
        if refused:
            raise CampaignError(f"{self.section.kind} takes no job: {refused[0]}; mend [cluster]")

    def _drop_missing(self) -> None:
        """Forget jobs that the batch system no longer knows though their worker never came."""
        if time.monotonic() - self._listed < LISTING_SECONDS:
            return
        self._listed = time.monotonic()
        there = {str(facts.get("name")) for facts in self.workers().values()}
        unseen = {str(n): str(j.job_id) for n, j in self.cluster.workers.items() if j.job_id and str(n) not in there}
        known = _listed_jobs(self.section.kind) if unseen else {}
        if known is None:
            return
        reasons = {known.get(job.split(".")[0], "") for job in unseen.values()}
        if unseen and not there and reasons <= HOPELESS:
            raise CampaignError(
                f"{self.section.kind} will never run these jobs ({', '.join(sorted(reasons))}): no node offers what "
                "they ask for; mend cluster.cores, gpus, memory, wall_time, queue or account"
            )
        missing = {name for name, job in unseen.items() if job.split(".")[0] not in known}
        gone = missing & self._missed
        self._missed = missing - gone
        self._stillborn += len(gone)
        if self._stillborn > STILLBORN * self.section.workers:
            raise CampaignError(
                f"{self._stillborn} jobs ended before their worker came; see the newest file in {self.logs}, then mend "
                "cluster.environment or the host's set-up"
            )

        async def forget() -> None:
            self._forget(lambda job: str(job.name) in gone)

        if gone:
            self.cluster.sync(forget)

    def _forget(self, which: Callable[[Any], bool]) -> list[str]:
        """Let Dask submit others in place of such jobs; what the batch system said of them. In its event loop only."""
        from distributed.core import Status

        said = []
        for name, job in list(self.cluster.workers.items()):
            if which(job):
                said.append(str(job.refused))
                job.status = Status.failed
                del self.cluster.workers[name]
        return said


def _told(job: Any) -> Any:
    """The class `job` of dask-jobqueue, but for a submission that fails: that is said in `refused`, not raised in tasks
    of the event loop that nobody awaits."""
    from distributed.core import Status

    class Told(job):  # type: ignore[misc]
        refused: str | None = None

        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, OSError, ValueError) as fault:
                self.refused, self.status = _last_line(fault), Status.running

    return Told


@contextmanager
def batch(section: ClusterSection, folder: Path) -> Iterator[Batch]:
    """Jobs as `section` describes them, cancelled at the end; their logs in ``folder/jobs``.

    Raises ConfigError where this host cannot submit jobs, CampaignError where the batch system refuses them.
    """
    import dask_jobqueue
    from distributed import Client
    from distributed.security import Security

    cls: Any = getattr(dask_jobqueue, f"{section.kind.upper()}Cluster")
    for program in (cls.job_cls.submit_command.split()[0], LISTING[section.kind][0]):
        if shutil.which(program) is None:
            raise ConfigError(
                f"this host has no {program}: run farfield where {section.kind} jobs are submitted, or use another "
                "cluster.kind",
                key="cluster.kind",
            )
    logs = folder / "jobs"
    if any(c.isspace() for c in f"{logs}{sys.executable}"):
        raise ConfigError(f"job scripts cannot hold the blanks in {logs}; choose another run.folder", key="run.folder")
    logs.mkdir(parents=True, exist_ok=True)
    logs.chmod(0o700)
    security = Security.temporary()
    cluster = cls(
        job_cls=_told(cls.job_cls), security=security, silence_logs=logging.CRITICAL, **arguments(section, logs)
    )
    with cluster, Client(cluster, security=security, set_as_default=False) as client:
        jobs = Batch(client, cluster, section, logs)
        jobs.start()
        yield jobs


def _listed_jobs(kind: str) -> dict[str, str] | None:
    """Ids of this user's jobs, with SLURM's reason why they wait; None while the batch system does not answer."""
    try:
        said = subprocess.run(LISTING[kind], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if said.returncode != 0:
        return None
    rows = [line.split() for line in said.stdout.splitlines() if line.strip()]
    return {row[0].split(".")[0]: row[1] if kind == "slurm" and len(row) > 1 else "" for row in rows}


def _last_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip() and line.strip() != "stderr:"]
    return lines[-1][:300] if lines else type(fault).__name__
