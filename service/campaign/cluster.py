"""The table [cluster] of the campaign file: where oracle calls run. Nothing in it changes an answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from farfield.errors import ConfigError
from farfield.service.campaign.sections import Positive, Section, listed

__all__ = ["BATCH", "LOCAL_WORKERS", "ClusterSection"]

BATCH = ("slurm", "pbs", "sge", "lsf")
LOCAL_WORKERS = 256
WORKER_MEMORY = 300.0
"""MB that a worker takes beside its call."""
Lines = Annotated[tuple[str, ...], BeforeValidator(listed)]


class ClusterSection(Section):
    """Where oracle calls run."""

    kind: Literal["local", "slurm", "pbs", "sge", "lsf"] = Field(
        default="local", description="local, slurm, pbs, sge or lsf; where a scheduler is named, that is used instead"
    )
    workers: int = Field(
        default=2, ge=1, le=100_000, description="calls at a time: worker processes of a local cluster, or batch jobs"
    )
    minimum: int | None = Field(
        default=None, ge=0, description="batch: as many jobs as there is work for, at least so many; unset: `workers`"
    )
    cores: int = Field(default=1, ge=1, description="cores of one oracle call")
    gpus: int = Field(default=0, ge=0, description="GPUs of one oracle call")
    scheduler: str | None = Field(default=None, description="address of a running Dask scheduler, e.g. tls://host:8786")
    insecure: bool = Field(default=False, description="allow plain tcp to another host")
    tls_ca: str | None = Field(default=None, description="of a tls:// scheduler: file of the authority, PEM")
    tls_cert: str | None = Field(default=None, description="likewise: our certificate")
    tls_key: str | None = Field(default=None, description="likewise: our key")
    queue: str | None = Field(default=None, description="batch: queue or partition")
    account: str | None = Field(default=None, description="batch: account or project that pays")
    wall_time: Positive = Field(default=24.0, description="batch: hours of one job; its worker leaves before")
    memory: Positive = Field(default=5000.0, description="batch: memory of one job, MB; above oracle.memory")
    environment: Lines = Field(default=(), description='batch: shell lines before the worker, ["module load qe"]')
    directives: Lines = Field(default=(), description='batch: further directives of the job script, ["--gres=gpu:1"]')
    interface: str | None = Field(default=None, description="batch: network interface of scheduler and workers, ib0")

    @property
    def where(self) -> str:
        """`kind`, or "scheduler" where one is named."""
        return self.kind if self.scheduler is None else "scheduler"

    @property
    def resources(self) -> dict[str, float]:
        """What a call asks of its worker beyond one core, as Dask resources."""
        asked = {"cores": self.cores if self.cores > 1 else 0, "gpus": self.gpus}
        return {name: float(count) for name, count in asked.items() if count}

    @field_validator("queue", "account", "interface")
    @classmethod
    def _one_word(cls, value: str | None) -> str | None:
        if value is not None and (not value or any(c.isspace() for c in value)):
            raise ValueError("is one word")
        return value

    @field_validator("environment", "directives")
    @classmethod
    def _single_lines(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("each entry is one line")
        return lines

    @model_validator(mode="after")
    def _consistent(self) -> ClusterSection:
        tls = [self.tls_ca, self.tls_cert, self.tls_key]
        if any(tls) and not all(tls):
            raise ValueError("tls_ca, tls_cert and tls_key go together; give all three")
        if self.minimum is not None and self.minimum > self.workers:
            raise ValueError(f"minimum {self.minimum} is above workers {self.workers}; workers is the maximum then")
        if self.where == "local" and self.workers > LOCAL_WORKERS:
            raise ValueError(f"a local cluster has at most {LOCAL_WORKERS} workers; give a scheduler or a batch kind")
        return self

    @property
    def lifetime(self) -> tuple[float, float]:
        """Seconds after which the worker of a batch job leaves, and by how much, at most, earlier or later (Dask's
        --lifetime and --lifetime-stagger): so workers do not leave all at once, and none is killed by its wall time."""
        wall = 3600 * self.wall_time
        spare = min(0.1 * wall, 600.0)
        return wall - 1.5 * spare, 0.5 * spare

    @property
    def longest_call(self) -> float:
        """Seconds that a call may take: in a batch job as long as its worker is there for certain."""
        lifetime, stagger = self.lifetime
        return lifetime - stagger if self.where in BATCH else float("inf")

    @property
    def largest_call(self) -> float:
        """MB that a call may take: in a batch job what it leaves for it."""
        return self.memory - WORKER_MEMORY if self.where in BATCH else float("inf")

    def check(self, call_memory: float, call_seconds: float) -> None:
        """What needs the oracle's limits, MB and s: a batch job holds a call and its worker. Raises ConfigError."""
        if call_seconds > self.longest_call:
            raise ConfigError(
                f"a job of cluster.wall_time {self.wall_time:g} h holds no call of oracle.wall_time {call_seconds:g} "
                f"s: its worker leaves after {self.longest_call:.0f} s; raise the one or lower the other",
                key="cluster.wall_time",
            )
        if call_memory > self.largest_call:
            raise ConfigError(
                f"cluster.memory {self.memory:g} MB of a job holds no call of oracle.memory {call_memory:g} MB and its "
                "worker; raise the one (by 500 MB or so) or lower the other",
                key="cluster.memory",
            )
