"""When a worker in a batch job leaves: before its wall time, and before a call that would not fit into the rest.

A worker that is killed in the middle of a call has paid for nothing. Dask's --lifetime ends a worker in any case; this
ends it between two calls, as soon as one like the longest it has seen would reach beyond that.
"""

from __future__ import annotations

import os
import time

__all__ = ["ENDS", "Lifetime"]

ENDS = "FARFIELD_WORKER_ENDS"
"""Environment variable of a job: seconds since 1970, by its host's clock, when its worker ends."""
SPARE = 1.2
"""A call may take so many times as long as the longest before it."""


class Lifetime:
    """The rest of this process's life. Make it early: from then on the host's clock may be set."""

    def __init__(self) -> None:
        ends = os.environ.get(ENDS, "")
        left = float(ends) - time.time() if ends else float("inf")
        self._end = time.monotonic() + left
        self._longest = 0.0
        self.leaving = False

    def called(self, seconds: float) -> None:
        """A call of this process took so long. Where another would not fit, the worker leaves, taking nothing more."""
        self._longest = max(self._longest, seconds)
        if not self.leaving and time.monotonic() + SPARE * self._longest > self._end:
            self.leaving = True
            _leave()


def _leave() -> None:
    """Tell the Dask worker that this task runs in to close, its queue going elsewhere."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return  # not in a worker
    worker.loop.add_callback(worker.close_gracefully, reason="no time for another call")
