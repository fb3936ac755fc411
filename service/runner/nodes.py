"""Suspect the worker before the task: hosts on which several different calls were lost in a row get no more of them.

A host that has no room on its disk rests for a while and is tried again (decisions A7). What is known here is of this
run alone; after a restart a bad host shows itself again at the price of a few calls.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from farfield.service.runner.cluster import host_of

__all__ = ["SUSPECT", "Nodes"]

SUSPECT = 3
"""Different calculations lost on a host, without one that came back from it, that make it suspect."""
REST_SECONDS = 2.0, 60.0
"""First and longest rest of a host with a full disk; each is twice the one before."""


class Nodes:
    """What this run has seen of each host, by the addresses of its workers."""

    def __init__(self) -> None:
        self._lost: dict[str, dict[str, tuple[str, bool]]] = {}
        self._resting: dict[str, tuple[float, float]] = {}
        self._silent: dict[str, frozenset[int]] = {}

    @property
    def uneasy(self) -> bool:
        """Whether anything is held against a host or worker: what comes back from there clears it then."""
        return bool(self._lost or self._resting or self._silent)

    def lost(self, worker: str, calculation: str, *, began: bool = True) -> bool:
        """A worker died, or could not do its work; whether its host has just become suspect.

        A call that had not begun counts only where none had that died with the same worker: Dask names all that waited
        there, and one call that kills its workers would make any host suspect.
        """
        there = self._lost.setdefault(host_of(worker), {})
        before = len(there)
        if began:
            for waited in [c for c, held in there.items() if held == (worker, False)]:
                del there[waited]
        elif (worker, True) in there.values():
            return False
        there[calculation] = (worker, began)
        return before < SUSPECT <= len(there)

    def worked(self, worker: str) -> bool:
        """A call came back; whether its host had been without room."""
        self._silent.pop(worker, None)
        self._lost.pop(host_of(worker), None)
        return self._resting.pop(host_of(worker), None) is not None

    def full(self, worker: str) -> bool:
        """The disk of its host is full; whether that is news."""
        host = host_of(worker)
        rest = min(2 * self._resting[host][1], REST_SECONDS[1]) if host in self._resting else REST_SECONDS[0]
        new = host not in self._resting
        self._resting[host] = (time.monotonic() + rest, rest)
        return new

    def silent(self, worker: str, sessions: Collection[int]) -> None:
        """It has let the lease of a call run out, which its `sessions` held; it gets no other until it speaks."""
        self._silent[worker] = frozenset(sessions)

    @property
    def sessions(self) -> frozenset[int]:
        """Sessions of the workers that are silent."""
        return frozenset[int]().union(*self._silent.values())

    def heard(self, sessions: Collection[int]) -> None:
        """These sessions live."""
        self._silent = {w: held for w, held in self._silent.items() if held.isdisjoint(sessions)}

    def resting(self) -> frozenset[str]:
        """Hosts that get no calls now, even where there are no others."""
        now = time.monotonic()
        return frozenset(host for host, (until, _) in self._resting.items() if until > now)

    def avoided(self) -> frozenset[str]:
        """Hosts and single workers that get no calls as long as there are others."""
        suspects = {host for host, lost in self._lost.items() if len(lost) >= SUSPECT}
        return frozenset(suspects | self._silent.keys()) | self.resting()
