"""Attempts on their way through Dask: each a new row first, then a task, at most twice as many as there are slots.

A future is only a wake-up call (decisions A5): what happened is read from the database. The task's key is
calculation-attempt, it is not pure and Dask never runs it again by itself.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farfield.db.claims import Claims
from farfield.service.runner.cluster import Cluster, host_of
from farfield.service.runner.nodes import Nodes
from farfield.service.runner.task import Order, Report, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from distributed import Future

__all__ = ["AHEAD", "Return", "Submission"]

AHEAD = 2
"""Attempts on the cluster per slot."""


@dataclass(frozen=True)
class Return:
    """A task that came back: what it said (`task.Outcome`), "killed" with its worker, "raised" (it could not be run),
    or "lost" (its scheduler went, which says nothing of worker or task). `worker`: its address, where that is known."""

    attempt: int
    calculation: str
    outcome: str
    message: str = ""
    worker: str = ""


class Submission:
    """The attempts that this controller has on the cluster."""

    def __init__(self, cluster: Cluster, claims: Claims) -> None:
        self.cluster, self.claims = cluster, claims
        self.nodes = Nodes()
        self.newest = 0
        """The last attempt that was sent out."""
        self._futures: dict[int, tuple[str, Future[Report]]] = {}
        self._returned: queue.SimpleQueue[int] = queue.SimpleQueue()

    @property
    def in_flight(self) -> int:
        """Attempts sent out and not returned."""
        return len(self._futures)

    @property
    def attempts(self) -> frozenset[int]:
        """The attempts in flight."""
        return frozenset(self._futures)

    @property
    def calculations(self) -> frozenset[str]:
        """Keys of the calculations in flight."""
        return frozenset(key for key, _ in self._futures.values())

    def room(self) -> int:
        """How many more attempts may be sent out now; none while the cluster is away or no host has room on disk."""
        if (resting := self.nodes.resting()) and all(host_of(w) in resting for w in self.cluster.workers()):
            return 0
        return AHEAD * self.cluster.slots() - self.in_flight

    def send(self, order: Callable[[int], Order], calculation: str, campaign: int, kinds: tuple[str, ...]) -> int:
        """Insert a new attempt as waiting, then submit its task; `order` makes the task's order from the attempt."""
        attempt = self.claims.new_attempt(calculation, campaign, kinds)
        self.newest = attempt
        future = self.cluster.submit(perform, order(attempt), f"{calculation}-{attempt}", self.nodes.avoided())
        self._futures[attempt] = (calculation, future)
        future.add_done_callback(lambda _: self._returned.put(attempt))
        return attempt

    def returns(self, timeout: float) -> list[Return]:
        """What came back; waits up to `timeout` seconds for the first."""
        out: list[Return] = []
        try:
            attempt = self._returned.get(timeout=timeout)
            while True:
                out += self._take(attempt)
                attempt = self._returned.get_nowait()
        except queue.Empty:
            return out

    def _take(self, attempt: int) -> list[Return]:
        if attempt not in self._futures:
            return []
        calculation, future = self._futures.pop(attempt)
        if future.status == "finished":
            report = future.result(timeout=10)
            return [Return(attempt, calculation, report.outcome, report.message, report.worker)]
        if future.status == "error":
            fault = future.exception(timeout=10)
            said = " ".join(f"{type(fault).__name__}: {fault}".split())
            if (killer := getattr(fault, "last_worker", None)) is not None:  # distributed.KilledWorker
                return [Return(attempt, calculation, "killed", said, str(killer.address))]
            return [Return(attempt, calculation, "raised", said)]
        return [Return(attempt, calculation, "lost", "the connection to the scheduler was lost")]

    def give_up(self, attempts: Collection[int]) -> None:
        """Forget attempts whose lease ran out: their workers hang, perhaps for good, and get nothing until they speak.

        What waits behind them in Dask is withdrawn, to be sent elsewhere.
        """
        keys = {f"{self._futures[a][0]}-{a}" for a in attempts if a in self._futures}
        for worker, queued in self.cluster.processing().items():
            if keys & set(queued):
                self.nodes.silent(worker)
                keys |= set(queued)
        for attempt, (calculation, future) in list(self._futures.items()):
            if f"{calculation}-{attempt}" in keys and (attempt in attempts or self.claims.withdraw(attempt)):
                future.cancel()
                del self._futures[attempt]

    def withdraw_waiting(self) -> int:
        """Take back every attempt that no worker has claimed yet; the rest is in flight and may finish."""
        back = 0
        for attempt, (_, future) in list(self._futures.items()):
            if self.claims.withdraw(attempt):
                future.cancel()
                del self._futures[attempt]
                back += 1
        return back
