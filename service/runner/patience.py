"""Trying again while the database is away: with growing pauses, for `[database] patience` (decisions A7)."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from farfield.db.outage import is_away, is_full

__all__ = ["Patience", "patiently"]

T = TypeVar("T")
LONGEST_PAUSE = 30.0

log = logging.getLogger(__name__)


class Patience:
    """How long is waited for a database that is away; without end for room on a full disk, which a person makes."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self._pause = 0.1

    def wait(self, fault: BaseException, *, endless: bool = False) -> None:
        """Sleep before another try. Raises `fault` itself where it does not pass, or has lasted too long."""
        full = is_full(fault)
        if not full and not is_away(fault):
            raise fault
        if not (full or endless) and time.monotonic() + self._pause > self.deadline:
            raise fault
        what = "there is no room on the disk" if full else "the database is away"
        log.warning("%s, trying again in %.1f s: %s", what, self._pause, str(fault).splitlines()[0])
        time.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def patiently(action: Callable[[], T], seconds: float) -> T:
    """`action()`, again and again while the database is away. It must be one whole transaction."""
    patience = Patience(seconds)
    while True:
        try:
            return action()
        except Exception as fault:  # noqa: BLE001  what does not pass is raised again
            patience.wait(fault)
