"""When the basis grows, and when the campaign is limited by it (theory.md section 4, step 6).

The measure is the core part of eta_geo on the datum that was bought last: what it was when the datum was new, and what
the refit with it leaves. A basis that can learn it at least halves it. Where it does not, on two successive rungs, and
the tolerance is at stake, the next basis is due; an eta above the tolerance alone never says so (a missing environment
does the same), and what is only noise no basis learns. Where there is no larger one, the campaign ends.
"""

from __future__ import annotations

from farfield.service.campaign.noise import only_noise
from farfield.service.estimates import Estimate

__all__ = ["STALLS", "count_stalls", "exhausted", "sentence"]

STALLS = 2
"""Successive rungs on which the refit fails to halve the core part."""
LEFT = 0.5
"""Share of the core part that a sound basis leaves at most."""
AT_STAKE = 0.5
"""Share of a tolerance from which the core part matters."""


def count_stalls(stalls: int, estimate: Estimate, tol_geo: float, tol_energy: float) -> int:
    """Successive stalled rungs, with this one: `estimate` before the refit, its `core_after` (Å) in sample after it."""
    stalled = estimate.core_after is not None and estimate.core_after > LEFT * estimate.core
    stalled = stalled and not only_noise(estimate)
    return stalls + 1 if stalled and _share(estimate, tol_geo, tol_energy) > AT_STAKE else 0


def exhausted(stalls: int, estimate: Estimate, tol_geo: float, tol_energy: float) -> bool:
    """Whether the core part alone keeps the tolerance away on a basis that has stalled."""
    return stalls >= STALLS and _share(estimate, tol_geo, tol_energy) > 1.0


def _share(e: Estimate, tol_geo: float, tol_energy: float) -> float:
    """The core terms in units of the tolerances."""
    return e.theta * max(e.core / tol_geo, abs(e.energy_core) / tol_energy)


def sentence(before: Estimate, last: Estimate) -> str:
    """What was seen, on the two rungs."""
    parts = ["{}x{}x{} ({:.4f} of {:.4f} Å)".format(*e.rung, e.core_after or 0.0, e.core) for e in (before, last)]
    return f"the refit left more than half of the core residual on {parts[0]} and {parts[1]}"
