"""Whether a call ended its worker, or went down with it: what became of the worker's supervisor tells.

A nanny that outlives its worker says that the call did it (memory, a crash). Where the nanny is gone too the job was
cancelled or preempted, or ran out of wall time, or the node died; then nothing is held against the call.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Fate", "Fates", "listens"]

WAIT_SECONDS = 5.0
"""A job that is cancelled ends its worker first, and its nanny within this time."""
CONNECT_SECONDS = 2.0
ASKED_AT_ONCE = 32


@dataclass(frozen=True)
class Fate:
    """A lost attempt that waits for the verdict."""

    attempt: int
    calculation: str
    message: str
    nanny: str
    due: float


class Fates:
    """The calls whose worker died, until it is known how. Their calculations are not bought again meanwhile."""

    def __init__(self) -> None:
        self._waiting: list[Fate] = []

    @property
    def held(self) -> frozenset[str]:
        """Keys of the calculations that wait for a verdict."""
        return frozenset(f.calculation for f in self._waiting)

    def note(self, attempt: int, calculation: str, message: str, nanny: str) -> None:
        """The worker under `nanny`, its address, died in this call."""
        self._waiting.append(Fate(attempt, calculation, message, nanny, time.monotonic() + WAIT_SECONDS))

    def told(self) -> list[tuple[Fate, bool]]:
        """The calls whose time has come, and whether the nanny lives. Each is held until it is `settled`."""
        now = time.monotonic()
        due = [f for f in self._waiting if f.due <= now]
        nannies = sorted({f.nanny for f in due})
        if not nannies:
            return []
        with ThreadPoolExecutor(min(len(nannies), ASKED_AT_ONCE)) as pool:
            lives = dict(zip(nannies, pool.map(listens, nannies), strict=True))
        return [(f, lives[f.nanny]) for f in due]

    def settled(self, fate: Fate) -> None:
        """The verdict is in the record."""
        self._waiting.remove(fate)


def listens(address: str) -> bool:
    """Whether anybody takes a connection at the address of a Dask server."""
    place = urlsplit(address)
    try:
        socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
