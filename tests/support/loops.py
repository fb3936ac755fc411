"""What a loop that hands out given decisions and learns nothing says to all that the runner asks of it."""

from __future__ import annotations

from collections.abc import Collection

from farfield.service.campaign.decision import DerivedForceConstants, Note

__all__ = ["Unlearned"]


class Unlearned:
    """No surrogate, no estimate, nothing derived, nothing to note, no label to withdraw."""

    surrogate = None

    def estimate(self) -> None:
        return None

    def derived(self) -> list[DerivedForceConstants]:
        return []

    def notes(self) -> list[Note]:
        return []

    def withdraw(self, calculations: Collection[str]) -> int:
        return 0
