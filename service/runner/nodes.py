"""Suspect the worker before the task: hosts on which several different calls were lost in a row get no more of them.

A host that has no room on its disk rests for a while and is tried again (decisions A7). What is known here is of this
run alone; after a restart a bad host shows itself again at the price of a few calls.
"""

from __future__ import annotations

import time

from farfield.service.runner.cluster import host_of

__all__ = ["SUSPECT", "Nodes"]

SUSPECT = 3
"""Different calculations lost on a host, without one that came back from it, that make it suspect."""
REST_SECONDS = 2.0, 60.0
"""First and longest rest of a host with a full disk; each is twice the one before."""


class Nodes:
    """What this run has seen of each host, by the addresses of its workers."""

    def __init__(self) -> None:
        self._lost: dict[str, set[str]] = {}
        self._resting: dict[str, tuple[float, float]] = {}
        self._silent: set[str] = set()

    @property
    def uneasy(self) -> bool:
        """Whether anything is held against a host or worker: what comes back from there clears it then."""
        return bool(self._lost or self._resting or self._silent)

    def lost(self, worker: str, calculation: str) -> bool:
        """A worker died, or could not do its work; whether its host has just become suspect."""
        calculations = self._lost.setdefault(host_of(worker), set())
        new = len(calculations) == SUSPECT - 1 and calculation not in calculations
        calculations.add(calculation)
        return new

    def worked(self, worker: str) -> bool:
        """A call came back; whether its host had been without room."""
        self._silent.discard(worker)
        self._lost.pop(host_of(worker), None)
        return self._resting.pop(host_of(worker), None) is not None

    def full(self, worker: str) -> bool:
        """The disk of its host is full; whether that is news."""
        host = host_of(worker)
        rest = min(2 * self._resting[host][1], REST_SECONDS[1]) if host in self._resting else REST_SECONDS[0]
        new = host not in self._resting
        self._resting[host] = (time.monotonic() + rest, rest)
        return new

    def silent(self, worker: str) -> None:
        """It has let the lease of a call run out; it gets no other until it speaks."""
        self._silent.add(worker)

    def resting(self) -> frozenset[str]:
        """Hosts that get no calls now, even where there are no others."""
        now = time.monotonic()
        return frozenset(host for host, (until, _) in self._resting.items() if until > now)

    def avoided(self) -> frozenset[str]:
        """Hosts and single workers that get no calls as long as there are others."""
        suspects = {host for host, lost in self._lost.items() if len(lost) >= SUSPECT}
        return frozenset(suspects | self._silent) | self.resting()
