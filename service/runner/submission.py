"""Attempts on their way through Dask: each a new row first, then a task, at most twice as many as there are slots.

A future is only a wake-up call (decisions A5): what happened is read from the database. The task's key is
calculation-attempt, it is not pure and Dask never runs it again by itself.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farfield.db.claims import Claims
from farfield.service.runner.clusters import slots
from farfield.service.runner.task import Order, Outcome, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from distributed import Client, Future

__all__ = ["AHEAD", "Return", "Submission"]

AHEAD = 2
"""Attempts on the cluster per slot."""
GATHER_SECONDS = 0.02
"""How long more are waited for once something came back: a turn of the controller costs about as much for many."""
COUNT_SECONDS = 2.0
"""How long a count of the slots is believed."""
SAID = {"finished": "finished", "superseded": "finished", "failed": "failed"}
"""What a task came to, by the state of its attempt; any other state means that it did not claim it."""


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
        self._keys: Counter[str] = Counter()
        self._returned: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._slots, self._counted = 0, -COUNT_SECONDS

    @property
    def in_flight(self) -> int:
        """Attempts sent out and not returned."""
        return len(self._futures)

    @property
    def calculations(self) -> Collection[str]:
        """Keys of the calculations in flight."""
        return self._keys.keys()

    @property
    def slots(self) -> int:
        """How many calls can run at a time, as counted a moment ago."""
        if time.monotonic() - self._counted >= COUNT_SECONDS:
            self._slots, self._counted = slots(self.client), time.monotonic()
        return self._slots

    def room(self) -> int:
        """How many more attempts may be sent out now."""
        return AHEAD * self.slots - self.in_flight

    def send(self, order: Callable[[int], Order], calculation: str, campaign: int, kinds: tuple[str, ...]) -> int:
        """Insert a new attempt as waiting, then submit its task; `order` makes the task's order from the attempt."""
        attempt = self.claims.new_attempt(calculation, campaign, kinds)
        self.submit(order(attempt))
        return attempt

    def submit(self, order: Order, priority: float = 0.0) -> None:
        """Submit the task of an attempt that is a row already; the higher `priority`, the sooner it starts."""
        attempt, calculation = order.attempt, order.calculation
        future = self.client.submit(
            perform,
            order,
            key=f"{calculation}-{attempt}",
            pure=False,
            retries=0,
            allow_other_workers=False,
            priority=priority,
        )
        self._futures[attempt] = (calculation, future)
        self._keys[calculation] += 1
        future.add_done_callback(lambda _: self._returned.put(attempt))

    def returns(self, timeout: float) -> list[Return]:
        """What came back; waits up to `timeout` seconds for the first."""
        back: list[int] = []
        try:
            back.append(self._returned.get(timeout=timeout))
            time.sleep(GATHER_SECONDS)
            while True:
                back.append(self._returned.get_nowait())
        except queue.Empty:
            return self._take([a for a in back if a in self._futures])

    def _take(self, back: Sequence[int]) -> list[Return]:
        """What the tasks came to. Where one ended, the record says how: nothing is fetched from the worker."""
        out: list[Return] = []
        ended: dict[int, str] = {}
        for attempt in back:
            calculation, future = self._forget(attempt)
            if future.status == "finished":
                ended[attempt] = calculation
            elif future.status == "error":
                fault = future.exception(timeout=10)
                out.append(Return(attempt, calculation, "raised", f"{type(fault).__name__}: {fault}".splitlines()[0]))
            else:
                out.append(Return(attempt, calculation, "lost", "the scheduler let it go"))
        states = self.claims.states(list(ended)) if ended else {}
        return out + [Return(a, key, SAID.get(states.get(a, ""), "not claimed")) for a, key in ended.items()]

    def _forget(self, attempt: int) -> tuple[str, Future[Outcome]]:
        calculation, future = self._futures.pop(attempt)
        self._keys[calculation] -= 1
        if not self._keys[calculation]:
            del self._keys[calculation]
        return calculation, future

    def withdraw_waiting(self, calculations: Collection[str] | None = None) -> list[str]:
        """Take back every attempt (of some `calculations`, or of all) that no worker has claimed yet; their keys.

        The rest is in flight and may finish.
        """
        asked = [a for a, (key, _) in self._futures.items() if calculations is None or key in calculations]
        back = []
        for attempt in self.claims.withdraw_all(asked) if asked else ():
            calculation, future = self._forget(attempt)
            future.cancel()
            back.append(calculation)
        return back
