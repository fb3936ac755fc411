"""Whether a run goes on buying: what people wish, what the budgets leave, and whether anything succeeds at all."""

from __future__ import annotations

import time
from dataclasses import dataclass

from farfield.db.progress import Cost
from farfield.db.record import Record
from farfield.service.campaign.config import BudgetSection
from farfield.service.campaign.ending import nothing_succeeds
from farfield.service.runner.budgets import FRUITLESS, LIMITED, Budget
from farfield.service.runner.diary import Diary
from farfield.service.runner.losses import Losses

__all__ = ["Halting", "Result"]

COST_SECONDS = 0.5
"""How old the sums of the cost may be where no limit on calls hangs on them."""


@dataclass(frozen=True)
class Result:
    """How a run ended. `exit_code` 0: tolerance met, or drained; 1: it cannot go on; 3: ended without the tolerance."""

    reason: str
    converged: bool
    exit_code: int
    drained: bool = False


class Halting:
    """Of one campaign, the diary's. `paused`: nothing new is bought for now."""

    def __init__(self, record: Record, limits: BudgetSection, losses: Losses, diary: Diary) -> None:
        self.record, self.losses, self.diary = record, losses, diary
        self.paused = False
        self._budget = Budget(limits)
        self._drain: str | None = None
        self._news = 0
        self._known: Cost | None = None
        self._counted = 0.0

    def drain(self, reason: str) -> None:
        """Finish the calls in flight, buy nothing new, then return."""
        self._drain = reason

    def listen(self) -> bool:
        """Hear what people ask through the database: pause, resume, stop. Whether calculations are to be looked at
        anew, since some were cancelled or given another chance."""
        wishes = self.record.wishes(self.diary.campaign)
        if wishes.paused != self.paused:
            self.paused = wishes.paused
            text = "nothing new is bought until `farfield resume`" if self.paused else "buying goes on"
            self.diary.note("paused" if self.paused else "went on", text)
        if self._drain is None and wishes.stop:
            self._drain = "farfield stop"
            self.diary.note("stopping", "`farfield stop`: calls in flight finish, nothing new is bought")
        news, self._news = wishes.news != self._news, wishes.news
        return news

    def why(self) -> Result | None:
        """Why to stop buying: a drain was asked for, new calculations keep failing, or a budget is spent; None where
        buying goes on."""
        if self._drain is not None:
            text = f"{self._drain}: calls in flight finished, nothing new was bought"
            return Result(text, False, 0, drained=True)
        if (fruitless := self._fruitless()) is not None:
            return fruitless
        cost = self.cost()
        if (spent := self._budget.spent(cost.calls, cost.core_seconds)) is not None:
            known = self.record.estimates(self.diary.campaign)
            stands = "the best estimate so far stands" if known else "there is no estimate yet"
            return Result(f"{spent}; {stands}", False, 3)
        return None

    def room(self, in_flight: int) -> int:
        """How many more attempts the budget allows."""
        return self._budget.room(self.cost().calls, in_flight)

    def cost(self) -> Cost:
        """What the campaign was charged: exact where it counts, for the budget of calls, else of a moment ago."""
        stale = time.monotonic() - self._counted >= COST_SECONDS
        if self._known is None or stale or self._budget.limits.calls is not None:
            self._known, self._counted = self.record.cost(self.diary.campaign), time.monotonic()
        return self._known

    def _fruitless(self) -> Result | None:
        """The end where new calculations keep failing, before the campaign's money is burnt on the rest of them."""
        if not self.losses.failing:
            return None
        streak = self.record.streak(self.diary.campaign, LIMITED)
        self.losses.failing = streak.calculations >= FRUITLESS
        if not self.losses.failing:
            return None
        stop = nothing_succeeds(streak.calculations, streak.failure, streak.message)
        return Result(stop.reason, stop.converged, stop.exit_code)
