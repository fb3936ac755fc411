"""The declared cost model: c(N) = max(N, N0)^p, in units of the smallest call (theory.md section 4, step 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["PowerCost"]

SMALLEST = 8
"""N0: below this many atoms the k-point mesh keeps a call from getting cheaper."""


@dataclass(frozen=True)
class PowerCost:
    """Cost of a call on N atoms, relative to one on 8 atoms or fewer. The default of a campaign (decisions A1)."""

    exponent: float

    def __call__(self, natoms: int) -> float:
        """Relative cost of one call."""
        return float((max(natoms, SMALLEST) / SMALLEST) ** self.exponent)

    def to_json(self) -> dict[str, Any]:
        """As stored with a decision."""
        return {"model": "power", "exponent": self.exponent}
