"""When a worker in a batch job leaves: before its wall time, and before a call that would not fit into the rest.

A worker that is killed in the middle of a call has paid for nothing. Dask's --lifetime ends a worker in any case; this
ends it between two calls, as soon as one like the longest it has seen would reach beyond that, or before a call that is
known to take longer.
"""

from __future__ import annotations

import os
import time

__all__ = ["ENDS", "LASTS", "Lifetime"]

ENDS = "FARFIELD_WORKER_ENDS"
"""Environment variable of a job: seconds since 1970, by its host's clock, when its worker ends."""
LASTS = "FARFIELD_WORKER_LASTS"
"""Likewise: for how many seconds in all."""
SPARE = 1.2
"""A call may take so many times as long as the longest before it."""


class Lifetime:
    """The rest of this process's life. Make it early: from then on the host's clock may be set."""

    def __init__(self) -> None:
        ends = os.environ.get(ENDS, "")
        left = float(ends) - time.time() if ends else float("inf")
        self._end, self._half = time.monotonic() + left, 0.5 * float(os.environ.get(LASTS, left))
        self._longest = 0.0
        self.leaving = False

    def called(self, seconds: float) -> None:
        """A call of this process took so long. Where another would not fit, the worker leaves, taking nothing more."""
        self._longest = max(self._longest, seconds)
        if not self.leaving and SPARE * self._longest > self._end - time.monotonic():
            self.leaving = True
            _leave()

    def holds(self, seconds: float) -> bool:
        """Whether a call that should take so long may begin here. In the first half of its job a worker takes any:
        another would hardly have more to offer. Where it may not, the worker leaves."""
        left = self._end - time.monotonic()
        if not self.leaving and left < min(self._half, SPARE * seconds):
            self.leaving = True
            _leave()
        return not self.leaving


def _leave() -> None:
    """Tell the Dask worker that this task runs in to close, its queue going elsewhere."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return  # not in a worker
    worker.loop.add_callback(worker.close_gracefully, reason="no time for another call")
