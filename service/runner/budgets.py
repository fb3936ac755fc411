"""Budgets: how often a failed calculation is tried, and when the campaign has spent what it may."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from farfield.db.progress import Missing
from farfield.oracles.oracle import FAILURES
from farfield.service.campaign.config import BudgetSection

__all__ = ["ATTEMPTS", "CANCELLED", "FRUITLESS", "LIMITED", "Budget", "given_up", "order_of", "spent_class"]

ATTEMPTS: dict[str, int] = {
    "worker lost": 6,
    "timed out": 2,
    "out of memory": 2,
    "crashed": 3,
    "not converged": 2,
    "bad answer": 2,
    "not supported": 1,
    "input error": 1,
}
"""Failed attempts of a class after which a calculation is given up; a lost worker burns none of the oracle's budget."""

if set(ATTEMPTS) != set(FAILURES):
    raise RuntimeError("every failure class needs a budget of its own")


FRUITLESS = 6
"""New calculations that fail in a row, retries apart, after which nothing is held to succeed any more."""
LIMITED = {f: ATTEMPTS[f] for f in ("timed out", "out of memory")}
"""Classes of calls that met a limit, which is wider when they are tried again, and their budgets."""


def spent_class(failures: Mapping[str, int]) -> str | None:
    """The failure class whose budget is spent, if any; `failures` counts a calculation's failed attempts by class."""
    return next((f for f, n in failures.items() if n >= ATTEMPTS.get(f, 1)), None)


CANCELLED = "cancelled"


def given_up(m: Missing) -> str | None:
    """Why a calculation is asked no more: the failure class whose budget is spent, `CANCELLED`; None while it is."""
    return CANCELLED if m.cancelled else spent_class(m.failures)


def order_of(failures: Mapping[str, int]) -> int:
    """Calculations of a lower number go first. What was never tried tells most of the oracle; what met a limit is tried
    again at once, for where the limit is too tight the rest will meet it too."""
    return sum(n for f, n in failures.items() if f not in LIMITED)


@dataclass
class Budget:
    """The campaign's limits, checked against the record's cost. The wall clock counts from the start of this run."""

    limits: BudgetSection
    started: float = field(default_factory=time.monotonic)

    def spent(self, calls: int, core_seconds: float) -> str | None:
        """Which limit is reached, in words, or None."""
        b = self.limits
        if b.calls is not None and calls >= b.calls:
            return f"the budget of {b.calls} oracle calls is spent"
        if b.core_hours is not None and core_seconds >= 3600 * b.core_hours:
            return f"the budget of {b.core_hours:g} core-hours is spent"
        if b.wall_clock is not None and time.monotonic() - self.started >= 3600 * b.wall_clock:
            return f"the budget of {b.wall_clock:g} hours of wall clock is spent"
        return None

    def room(self, calls: int, in_flight: int) -> int:
        """How many more attempts may be sent out without passing the limit on calls."""
        if self.limits.calls is None:
            return 1 << 30
        return max(0, self.limits.calls - calls - in_flight)
