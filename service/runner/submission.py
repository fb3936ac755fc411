"""Attempts on their way through Dask: each a new row first, then a task, at most twice as many as there are slots.

A future is only a wake-up call (decisions A5): what happened is read from the database. The task's key is
calculation-attempt, it is not pure and Dask never runs it again by itself.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farfield.db.claims import Claims
from farfield.service.runner.clusters import slots
from farfield.service.runner.task import Order, Outcome, perform

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future

__all__ = ["AHEAD", "Return", "Submission"]

AHEAD = 2
"""Attempts on the cluster per slot."""


@dataclass(frozen=True)
class Return:
    """A task that came back: what it said ("finished", "failed", "not claimed"), "raised", or "lost"."""

    attempt: int
    calculation: str
    outcome: str
    message: str = ""


class Submission:
    """The attempts that this controller has on the cluster."""

    def __init__(self, client: Client, claims: Claims) -> None:
        self.client, self.claims = client, claims
        self._futures: dict[int, tuple[str, Future[Outcome]]] = {}
        self._returned: queue.SimpleQueue[int] = queue.SimpleQueue()

    @property
    def in_flight(self) -> int:
        """Attempts sent out and not returned."""
        return len(self._futures)

    @property
    def calculations(self) -> frozenset[str]:
        """Keys of the calculations in flight."""
        return frozenset(key for key, _ in self._futures.values())

    def room(self) -> int:
        """How many more attempts may be sent out now."""
        return AHEAD * slots(self.client) - self.in_flight

    def send(self, order: Callable[[int], Order], calculation: str, campaign: int, kinds: tuple[str, ...]) -> int:
        """Insert a new attempt as waiting, then submit its task; `order` makes the task's order from the attempt."""
        attempt = self.claims.new_attempt(calculation, campaign, kinds)
        future = self.client.submit(
            perform, order(attempt), key=f"{calculation}-{attempt}", pure=False, retries=0, allow_other_workers=False
        )
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
            return [Return(attempt, calculation, str(future.result(timeout=10)))]
        if future.status == "error":
            fault = future.exception(timeout=10)
            return [Return(attempt, calculation, "raised", f"{type(fault).__name__}: {fault}".splitlines()[0])]
        return [Return(attempt, calculation, "lost", "the scheduler let it go")]

    def withdraw_waiting(self) -> int:
        """Take back every attempt that no worker has claimed yet; the rest is in flight and may finish."""
        back = 0
        for attempt, (_, future) in list(self._futures.items()):
            if self.claims.withdraw(attempt):
                future.cancel()
                del self._futures[attempt]
                back += 1
        return back
