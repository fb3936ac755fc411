"""What the decisions under way still miss, kept in memory and brought up to date by the record, piece by piece.

A look at everything costs as much as the decisions are long, so it is rare; what came back is looked at by itself.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from farfield.db.progress import Missing
from farfield.service.campaign.continuous import SPECULATIVE
from farfield.service.campaign.decision import Decision, Proposal
from farfield.service.runner.budgets import given_up, order_of

if TYPE_CHECKING:
    from farfield.db.record import Record

__all__ = ["Buying", "Place"]

Place = tuple[int, int]
"""Decision and ordinal."""
LOOK_SECONDS = 5.0
"""Least time between two looks at everything; what others did to the record is seen then."""
SHARE = 0.05
"""Share of the time that looks at everything may take."""


class Buying:
    """The proposals of a campaign's decisions that are not settled yet: neither answered nor given up nor dropped.

    What may be sent out waits in a heap. A place leaves it when it is taken and comes back when the record, read anew,
    says that it is still missing and not under way.
    """

    def __init__(self, record: Record, campaign: int) -> None:
        self.record, self.campaign = record, campaign
        self.decisions: dict[int, Decision] = {}
        self.unsettled: set[Place] = set()
        self._proposals: dict[Place, Proposal] = {}
        self._costs: dict[Place, float] = {}
        self._missing: dict[Place, Missing] = {}
        self._places: dict[str, list[Place]] = {}
        self._elsewhere: set[str] = set()
        self._dropped: set[Place] = set()
        self._timed: set[int] = set()
        self._heap: list[tuple[bool, int, float, Place]] = []
        self.settled = 0
        """So many places have been settled, dropped ones apart, since this was made; it only grows."""
        self._looked, self._took = 0.0, 0.0

    @property
    def total(self) -> int:
        """Proposals of the decisions under way."""
        return len(self._proposals)

    def add(self, decision: Decision, cost: Callable[[Proposal], float], *, timed: bool = False) -> None:
        """`decision` is to be bought too; `cost` ranks its proposals, the longest call starts first. `timed`: it is in
        core-seconds."""
        if timed:
            self._timed.add(decision.number)
        self.decisions[decision.number] = decision
        for p in decision.proposals:
            self._proposals[decision.number, p.ordinal] = p
            self._costs[decision.number, p.ordinal] = cost(p)
        self._read(decision.number)
        self.settled += sum((decision.number, p.ordinal) not in self.unsettled for p in decision.proposals)

    def close(self, number: int) -> None:
        """Decision `number` is concluded: forget it."""
        self._timed.discard(number)
        for p in self.decisions.pop(number).proposals:
            place = number, p.ordinal
            self._forget(place)
            del self._proposals[place], self._costs[place]
            self._dropped.discard(place)

    def drop(self, places: Iterable[Place]) -> None:
        """What these places ask for no longer pays: nothing new is bought for them. What runs may finish."""
        own = {p for p in places if p in self._proposals}
        self._dropped |= own
        self.unsettled -= own

    def standing(self, place: Place, in_flight: Collection[str]) -> str:
        """Whether `place` is "settled", "pending", or "dropped" before it began."""
        if place in self.unsettled:
            return "pending"
        if place in self._dropped and place in self._missing:
            return "pending" if self._missing[place].calculation in in_flight else "dropped"
        return "settled"

    def calculations(self, places: Iterable[Place]) -> set[str]:
        """The keys of the calculations at `places` that miss something."""
        return {self._missing[p].calculation for p in places if p in self._missing}

    def proposal(self, place: Place) -> Proposal:
        """What was proposed there."""
        return self._proposals[place]

    def core_seconds(self, place: Place) -> float:
        """What it should cost, 0 where no call was timed when it was decided."""
        return self._costs[place] if place[0] in self._timed else 0.0

    def priority(self, place: Place) -> float:
        """The higher, the sooner a worker begins it: the longest call first, speculative ones after all others."""
        cost = self._costs[place]
        return -1 / (1 + cost) if self._speculative(place) else cost

    def take(self, count: int, in_flight: Collection[str]) -> list[tuple[Place, Missing]]:
        """The next `count` to send out: what was never tried, of that the longest call; nothing that is in flight.
        What is bought ahead of the loop waits for all that the loop itself has asked for."""
        out: list[tuple[Place, Missing]] = []
        taken = set(in_flight)
        while self._heap and len(out) < count:
            *_, place = heapq.heappop(self._heap)
            m = self._missing.get(place)
            if m is None or place not in self.unsettled or m.open or m.calculation in taken:
                continue
            taken.add(m.calculation)
            out.append((place, m))
        return out

    def look(self, calculations: Collection[str] | None = None) -> None:
        """Read anew what the record says of `calculations`, or of all."""
        began = time.monotonic()
        for number in self.decisions:
            if calculations is None:
                self._read(number)
            elif own := [k for k in calculations if any(n == number for n, _ in self._places.get(k, ()))]:
                self._read(number, own)
        if calculations is None:
            self._looked, self._took = time.monotonic(), time.monotonic() - began

    def glance(self, in_flight: Collection[str]) -> None:
        """A look at what others have under way, that is not `in_flight` here; now and then at everything."""
        if time.monotonic() - self._looked >= max(LOOK_SECONDS, self._took / SHARE):
            self.look()
        elif others := self._elsewhere.difference(in_flight):
            self.look(others)

    def _read(self, number: int, calculations: Collection[str] | None = None) -> None:
        found = self.record.missing(self.campaign, number, calculations)
        if calculations is None:
            old = [p for p in self._missing if p[0] == number]
        else:
            old = [p for k in calculations for p in self._places[k] if p[0] == number]
        before = self.unsettled.intersection(old)
        for place in old:
            self._forget(place)
        for m in found:
            place = number, m.ordinal
            self._missing[place] = m
            self._places.setdefault(m.calculation, []).append(place)
            if given_up(m) is None and place not in self._dropped:
                self.unsettled.add(place)
                if m.open:
                    self._elsewhere.add(m.calculation)
                else:
                    rank = self._speculative(place), order_of(m.failures), -self._costs[place]
                    heapq.heappush(self._heap, (*rank, place))
        self.settled += len(before - self.unsettled)

    def _speculative(self, place: Place) -> bool:
        return self._proposals[place].term == SPECULATIVE

    def _forget(self, place: Place) -> None:
        m = self._missing.pop(place, None)
        if m is None:
            return
        self.unsettled.discard(place)
        self._elsewhere.discard(m.calculation)
        left = [p for p in self._places[m.calculation] if p != place]
        if left:
            self._places[m.calculation] = left
        else:
            del self._places[m.calculation]
