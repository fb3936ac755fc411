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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from farfield.errors import CampaignError, ConfigError
from farfield.service.campaign.cluster import ClusterSection
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.jobscript import arguments
from farfield.service.runner.submitted import Submitted, left_behind

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
"""Jobs per slot that end before their worker has come, none coming in between, after which the script is held wrong, or
the cluster where workers came before."""
KEYS = ".dask*"
"""What the TLS files are called that dask-jobqueue writes for the workers."""
REST_SECONDS = 60.0, 600.0
"""First and longest wait before new jobs of a cluster that is held wrong; each is twice the one before."""


class Batch(Cluster):
    """Jobs of a batch system, as many as `section` asks for or, where it is adaptive, as there is work for."""

    def __init__(
        self, cluster: Any, section: ClusterSection, logs: Path, submitted: Submitted, connect: Callable[[], Client]
    ) -> None:
        super().__init__(connect(), section.resources, connect)
        self.submitted = submitted
        self.cluster, self.section, self.logs = cluster, section, logs
        self._had_workers = False
        self._listed = 0.0
        self._missed: set[str] = set()
        self._stillborn = 0
        self._ever = False  # whether a worker has come in this run
        self._rest, self._resting = REST_SECONDS[0], 0.0
        self._refused = ""

    @property
    def dashboard(self) -> str | None:
        """It asks nobody who they are, so it listens on this host alone, whatever Dask's link says."""
        link = super().dashboard
        return None if link is None else urlsplit(link)._replace(netloc=f"127.0.0.1:{urlsplit(link).port}").geturl()

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
            self._ever, self._stillborn, self._rest = True, 0, REST_SECONDS[0]
        said += self._drop_missing()
        if time.monotonic() < self._resting:
            return said
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
        self.submitted.note([str(job.job_id) for job in self.cluster.workers.values() if job.job_id])
        if refused:
            raise CampaignError(f"{self.section.kind} takes no job: {refused[0]}; mend [cluster]")

    def _drop_missing(self) -> list[str]:
        """Forget jobs that the batch system no longer knows though their worker never came; what people should know.
        Raises CampaignError where no worker has ever come."""
        if time.monotonic() - self._listed < LISTING_SECONDS:
            return []
        self._listed = time.monotonic()
        there = {str(facts.get("name")) for facts in self.workers().values()}
        unseen = {str(n): str(j.job_id) for n, j in self.cluster.workers.items() if j.job_id and str(n) not in there}
        known = _listed_jobs(self.section.kind) if unseen else {}
        if known is None:
            return []
        reasons = {known.get(job.split(".")[0], "") for job in unseen.values()}
        if unseen and not self._ever and reasons <= HOPELESS:
            raise CampaignError(
                f"{self.section.kind} will never run these jobs ({', '.join(sorted(reasons))}): no node offers what "
                "they ask for; mend cluster.cores, gpus, memory, wall_time, queue or account"
            )
        missing = {name for name, job in unseen.items() if job.split(".")[0] not in known}
        gone = missing & self._missed
        self._missed = missing - gone
        self._stillborn += len(gone)
        text = f"{self._stillborn} jobs ended before their worker came; see the newest file in {self.logs}"
        wrong = self._stillborn > STILLBORN * self.section.workers
        if wrong and not self._ever:
            raise CampaignError(f"{text}, then mend cluster.environment or the host's set-up")

        async def forget() -> None:
            self._forget(lambda job: str(job.name) in gone)

        if gone:
            self.cluster.sync(forget)
        if not (wrong and gone):
            return []
        self._resting = time.monotonic() + self._rest
        said = f"{text}; new ones are submitted in {self._rest:.0f} s"
        self._rest = min(2 * self._rest, REST_SECONDS[1])
        return [said]

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
    _cancel_left(section.kind, cls.job_cls.cancel_command.split(), logs)
    before = set(logs.glob(KEYS))
    security = Security.temporary()
    cluster = cls(
        job_cls=_told(cls.job_cls), security=security, silence_logs=logging.CRITICAL, **arguments(section, logs)
    )

    def client() -> Client:
        return Client(cluster, security=security, set_as_default=False)

    submitted = Submitted(logs, section.kind, [key.name for key in set(logs.glob(KEYS)) - before])
    with ExitStack() as stack:
        stack.callback(submitted.close)
        stack.enter_context(cluster)
        jobs = Batch(cluster, section, logs, submitted, client)
        stack.callback(lambda: jobs.client.close())
        jobs.start()
        yield jobs


def _cancel_left(kind: str, command: list[str], logs: Path) -> None:
    """End the jobs of controllers that were killed, whose schedulers are gone with them, and remove their keys."""
    for path, left in left_behind(logs):
        if left.kind != kind:
            continue
        if left.jobs:
            try:
                subprocess.run([*command, *left.jobs], capture_output=True, timeout=120, check=False)  # some have ended
            except (OSError, subprocess.TimeoutExpired):
                continue  # the next one may
        for key in left.keys:
            (logs / key).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


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
    lines = [line.strip() for line in str(fault).splitlines()]
    said = [line for line in lines if line not in ("", "stderr:", "Exiting.")]
    return said[-1][:300] if said else type(fault).__name__
