"""What a runner tells whoever watches it. The command line draws it; tests and notebooks may listen too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from farfield.service.campaign.decision import Decision
from farfield.service.estimates import Estimate

__all__ = ["Listener", "Progress", "Silent"]


@dataclass(frozen=True)
class Progress:
    """How far a round is: calculations settled of `total`, calls in flight, and the campaign's totals so far."""

    settled: int
    total: int
    in_flight: int
    calls: int
    core_seconds: float


class Listener(Protocol):
    """Called by the runner from its own thread, in order; must return quickly."""

    def decided(self, decision: Decision) -> None:
        """A round begins: `decision` is stored."""

    def progressed(self, progress: Progress) -> None:
        """Something came back or was sent out."""

    def concluded(self, decision: Decision, estimate: Estimate | None, core_seconds: float) -> None:
        """Every calculation of `decision` is terminal and told; `core_seconds` is what this campaign paid for them."""

    def noted(self, kind: str, message: str) -> None:
        """An event that a person may want to see; it is in the database too."""


class Silent:
    """A listener that ignores everything."""

    def decided(self, decision: Decision) -> None:
        """Nothing."""

    def progressed(self, progress: Progress) -> None:
        """Nothing."""

    def concluded(self, decision: Decision, estimate: Estimate | None, core_seconds: float) -> None:
        """Nothing."""

    def noted(self, kind: str, message: str) -> None:
        """Nothing."""
