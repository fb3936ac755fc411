"""Attempts on their way through Dask: each a new row first, then a task, at most twice as many as there are slots.

A future is only a wake-up call (decisions A5): what happened is read from the database, and what the task says is
fetched only where it tells more. The task's key is calculation-attempt, it is not pure and Dask never runs it again by
itself.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farfield.db.claims import Claims
from farfield.errors import CampaignError
from farfield.service.runner.cluster import Cluster, host_of
from farfield.service.runner.nodes import Nodes
from farfield.service.runner.task import Order, Report, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from distributed import Future

__all__ = ["AHEAD", "Return", "Submission"]

AHEAD = 2
"""Attempts on the cluster per slot."""
GATHER_SECONDS = 0.02
"""How long more are waited for once something came back: a turn of the controller costs about as much for many."""
FETCH_SECONDS = 5.0
"""How long is waited for what a task says."""
SAID = {"finished": "finished", "superseded": "finished", "failed": "failed"}
"""What a task came to, by the state of its attempt; any other state means that it did not claim it."""


@dataclass(frozen=True)
class Return:
    """A task that came back: what it said (`task.Outcome`), "killed" with its worker, "raised" (it could not be run),
    or "lost" (its scheduler went, which says nothing of worker or task). `worker`: its address, where that is known;
    `nanny`: its nanny's, where it died and had one."""

    attempt: int
    calculation: str
    outcome: str
    message: str = ""
    worker: str = ""
    nanny: str = ""


class Submission:
    """The attempts that this controller has on the cluster."""

    def __init__(self, cluster: Cluster, claims: Claims) -> None:
        self.cluster, self.claims = cluster, claims
        self.nodes = Nodes()
        self.newest = 0
        """The last attempt that was sent out."""
        self._futures: dict[int, tuple[str, Future[Report]]] = {}
        self._keys: Counter[str] = Counter()
        self._bound: dict[int, frozenset[str]] = {}
        self._returned: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._back: list[int] = []

    @property
    def in_flight(self) -> int:
        """Attempts sent out and not returned."""
        return len(self._futures)

    @property
    def attempts(self) -> frozenset[int]:
        """The attempts in flight."""
        return frozenset(self._futures)

    @property
    def calculations(self) -> Collection[str]:
        """Keys of the calculations in flight."""
        return self._keys.keys()

    def room(self) -> int:
        """How many more attempts may be sent out now; none while the cluster is away or no host has room on disk."""
        if (resting := self.nodes.resting()) and all(host_of(w) in resting for w in self.cluster.workers()):
            return 0
        return AHEAD * self.cluster.slots() - self.in_flight

    def send(
        self,
        order: Callable[[int], Order],
        calculation: str,
        campaign: int,
        kinds: tuple[str, ...],
        session: int,
        cores: int = 1,
    ) -> int:
        """Insert a new attempt as waiting, held by `session`, then submit its task; `order` makes the task's order from
        the attempt, which takes `cores`. Raises CampaignError while the scheduler is away."""
        attempt = self.claims.new_attempt(calculation, campaign, kinds, session, cores)
        if not self.submit(order(attempt)):
            raise CampaignError("the Dask scheduler is away; try again when it is back")
        return attempt

    def submit(self, order: Order, priority: float = 0.0) -> bool:
        """Submit the task of an attempt that is a row already; the higher `priority`, the sooner it starts. While the
        scheduler is away the attempt is withdrawn instead: False."""
        attempt, calculation = order.attempt, order.calculation
        self.newest = max(self.newest, attempt)
        key = _key(calculation, attempt)
        if bound := self.cluster.others(self.nodes.avoided()):
            self._bound[attempt] = frozenset(bound)
        future = self.cluster.submit(perform, order, key, bound, priority)
        if future is None:
            self.claims.withdraw(attempt)
            return False
        self._futures[attempt] = (calculation, future)
        self._keys[calculation] += 1
        future.add_done_callback(lambda _: self._returned.put(attempt))
        return True

    def returns(self, timeout: float) -> list[Return]:
        """What came back; waits up to `timeout` seconds for the first.

        Where the database is away, which is raised, it comes back again the next time.
        """
        try:
            if not self._back:
                self._back.append(self._returned.get(timeout=timeout))
                time.sleep(GATHER_SECONDS)
            while True:
                self._back.append(self._returned.get_nowait())
        except queue.Empty:
            out = self._take([a for a in self._back if a in self._futures])
        self._back = []
        return out

    def _take(self, back: Sequence[int]) -> list[Return]:
        """What the tasks came to. Where one ended the record says how, unless it went wrong or its worker is of
        interest: the task itself is asked then, and where its word is lost with its worker, the record counts."""
        asked = [a for a in back if self._futures[a][1].status != "error"]
        states = self.claims.states(asked) if asked else {}
        uneasy = self.nodes.uneasy
        out: list[Return] = []
        for attempt in back:
            calculation, future = self._forget(attempt)
            said = SAID.get(states.get(attempt, ""))
            whole = future.status == "finished"
            if said is None and not whole:
                out.append(_unfinished(attempt, calculation, future))
                continue
            report = _report(future) if whole and (uneasy or said != "finished") else None
            if report is None:
                out.append(Return(attempt, calculation, said or "not claimed"))
            else:
                out.append(Return(attempt, calculation, report.outcome, report.message, report.worker))
        return out

    def _forget(self, attempt: int) -> tuple[str, Future[Report]]:
        calculation, future = self._futures.pop(attempt)
        self._bound.pop(attempt, None)
        self._keys[calculation] -= 1
        if not self._keys[calculation]:
            del self._keys[calculation]
        return calculation, future

    def give_up(self, attempts: Collection[int]) -> None:
        """Forget attempts whose lease ran out: their workers hang, perhaps for good, and get nothing until they speak.

        What waits behind them in Dask is withdrawn, to be sent elsewhere.
        """
        lost = {_key(self._futures[a][0], a): a for a in attempts if a in self._futures}
        keys = set(lost)
        for worker, queued in self.cluster.processing().items():
            if theirs := [lost[key] for key in queued if key in lost]:
                self.nodes.silent(worker, self.claims.holders(theirs))
                keys |= set(queued)
        stuck = [a for a, (calculation, _) in self._futures.items() if _key(calculation, a) in keys]
        self._cancel([a for a in stuck if a in attempts])
        if behind := [a for a in stuck if a not in attempts]:
            self._cancel(self.claims.withdraw_all(behind))

    def hear(self, lease: float) -> None:
        """Workers that were silent and give signs of life again get calls again."""
        if silent := self.nodes.sessions:
            self.nodes.heard(self.claims.alive(silent, lease))

    def stranded(self) -> list[str]:
        """Take back what was bound to workers that are all gone, while there are others; the keys of its calculations.

        Dask would keep it for them for good.
        """
        there = self.cluster.workers().keys() if self._bound else frozenset[str]()
        stuck = [a for a, bound in self._bound.items() if bound.isdisjoint(there)] if there else []
        return self._cancel(self.claims.withdraw_all(stuck)) if stuck else []

    def _cancel(self, attempts: Sequence[int]) -> list[str]:
        """Forget attempts, and let Dask forget them; the keys of their calculations."""
        out = []
        for attempt in attempts:
            calculation, future = self._forget(attempt)
            self.cluster.forget(future)
            out.append(calculation)
        return out

    def withdraw_waiting(self, calculations: Collection[str] | None = None) -> list[str]:
        """Take back every attempt (of some `calculations`, or of all) that no worker has claimed yet; their keys.

        The rest is in flight and may finish.
        """
        asked = [a for a, (key, _) in self._futures.items() if calculations is None or key in calculations]
        return self._cancel(self.claims.withdraw_all(asked)) if asked else []


def _key(calculation: str, attempt: int) -> str:
    """The task's name. Dask keeps books by its first word: one entry for all our tasks, where it would keep one for
    each, and go through them all again and again."""
    return f"farfield-{calculation}-{attempt}"


def _unfinished(attempt: int, calculation: str, future: Future[Report]) -> Return:
    """A task that did not end by itself."""
    if future.status != "error":
        return Return(attempt, calculation, "lost", "the connection to the scheduler was lost")
    fault = future.exception(timeout=10)
    said = " ".join(f"{type(fault).__name__}: {fault}".split())
    if (killer := getattr(fault, "last_worker", None)) is not None:  # distributed.KilledWorker
        return Return(attempt, calculation, "killed", said, str(killer.address), str(killer.nanny or ""))
    return Return(attempt, calculation, "raised", said)


def _report(future: Future[Report]) -> Report | None:
    """What a task said; None where that went with its worker or its scheduler."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        return future.result(timeout=FETCH_SECONDS)
    except (CancelledError, KilledWorker, OSError, UnboundLocalError):
        return None  # a time-out is an OSError; the last is what Dask's `sync` makes of a cancellation
