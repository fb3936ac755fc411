"""The runner as it is, with decisions from a list: what it takes per calculation, and how busy it keeps the workers."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from distributed import Client
from loops import Unlearned
from sqlalchemy import func, select

from farfield.db import schema
from farfield.db.engine import Database
from farfield.oracles import registry
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, Proposal, Stop
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.runner import Runner

__all__ = ["KINDS", "ListLoop", "Measured", "measure"]

KINDS = ("E", "F", "V")


class ListLoop(Unlearned):
    """Hands out cells in decisions of `size`; learns nothing."""

    def __init__(self, cells: Sequence[Atoms], size: int) -> None:
        self.parts = [cells[k : k + size] for k in range(0, len(cells), size)]
        self.told = self.answered = 0

    def start(self, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]) -> ListLoop:
        self.told = len(answers)
        return self

    def ask(self) -> Decision | Stop:
        if self.told == len(self.parts):
            return Stop("the list is empty", True, 0)
        proposals = tuple(
            Proposal(k, atoms, KINDS, "training", "core", (1, 1, 1), {})
            for k, atoms in enumerate(self.parts[self.told])
        )
        return Decision(self.told, "from a list", proposals, (), 0, {"model": "power", "exponent": 2.5}, {}, {}, b"")

    def tell(self, decision: Decision, answers: Sequence[Answer]) -> None:
        self.told += 1
        self.answered += sum(a.energy is not None and a.forces is not None and a.virial is not None for a in answers)


@dataclass(frozen=True)
class Measured:
    """`seconds` of wall clock, `slept` of all calls together, `controller` CPU seconds of the runner's own thread,
    `peak` MB of this process."""

    count: int
    workers: int
    seconds: float
    slept: float
    controller: float
    peak: float

    @property
    def rate(self) -> float:
        """Calculations per second."""
        return self.count / self.seconds

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that was spent in calls."""
        return self.slept / (self.workers * self.seconds)


def measure(
    client: Client, database: Database, cells: Sequence[Atoms], scale: float, size: int, workers: int, folder: Path
) -> Measured:
    """Buy every cell once through the runner; raises where one is not answered or answered twice."""
    config = CampaignConfig.from_mapping(
        {
            "campaign": {"name": f"scale-{time.time_ns()}"},
            "oracle": {"name": "sleeping:SleepingOracle", "parameters": {"scale": scale}},
            "run": {"folder": str(folder)},
            "database": {"url": database._url.render_as_string(hide_password=False)},
        },
        base=folder,
    )
    loop = ListLoop(cells, size)
    oracle = registry.load(config.oracle.name, config.oracle.parameters)
    address = client.scheduler.address
    cluster = Cluster(client, connect=lambda: Client(address, set_as_default=False))
    runner = Runner(config, database, cluster, oracle, loop.start)
    began, cpu = time.perf_counter(), time.thread_time()
    result = runner.run()
    seconds, controller = time.perf_counter() - began, time.thread_time() - cpu
    a, o = schema.attempt.c, schema.observation.c
    with database.read() as connection:
        mine = select(a.calculation_id).where(a.campaign_id == runner.campaign)
        finished = connection.scalars(
            select(func.count()).where(a.campaign_id == runner.campaign, a.state == "finished")
        ).one()
        labels = connection.scalars(select(func.count()).where(o.calculation_id.in_(mine), o.detail == "")).one()
        slept = connection.scalars(select(func.sum(a.core_seconds)).where(a.campaign_id == runner.campaign)).one()
    count = len(cells)
    if not result.converged or (loop.answered, finished, labels) != (count, count, len(KINDS) * count):
        raise RuntimeError(
            f"{count} cells, {loop.answered} told, {finished} finished, {labels} labels: {result.reason}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(count, workers, seconds, float(slept), controller, peak)
