"""Calculations that were given up: which of them a campaign can do without.

One strained pair, a point of the equation of state, one noise call or one of several first cells is a loss of data, not
of the campaign; where all first cells are lost they are asked once more. A verification call that fails is asked once
more, at another rattle. A label in doubt whose confirmation fails is withdrawn. The references, the oracle check and
the force constants have no substitute.
"""

from __future__ import annotations

from collections.abc import Sequence

from farfield.service.campaign.decision import Answer, Decision, Proposal
from farfield.service.campaign.observed import Observed
from farfield.service.campaign.suspects import ROLE as CONFIRMATION

__all__ = ["ADVICE", "RESTARTS", "VERIFICATIONS", "fatal"]

POINTS = 5
"""Least points of an equation of state: a quartic fit with its minimum inside."""
PAIRS = 3
"""Least complete strained pairs of a decision."""
RESTARTS = 1
"""Times the first cells are asked anew, at other rattles, where none was answered or believed."""
VERIFICATIONS = 2
"""Verification calls in a row that may go without an answer."""

ADVICE = {
    "worker lost": "look at the workers' memory and logs, then run again",
    "timed out": "raise the limit and run again",
    "out of memory": "raise the limit and run again",
    "crashed": "its output is kept under scratch/failed; mend the oracle and run again",
    "not converged": "its output is kept under scratch/failed; ease the oracle's convergence and run again",
    "bad answer": "mend the oracle's settings and run again",
    "not supported": "take an oracle that answers these cells and kinds",
    "input error": "mend oracle.parameters and run again",
}
"""What to do where a failure class ends a campaign."""

Loss = tuple[Proposal, Answer]


def fatal(decision: Decision, observed: Observed, unanswered: int, restarts: int) -> Loss | None:
    """The first loss in `decision` without which the campaign cannot go on; `observed` holds what did come.

    `unanswered`: verification calls in a row, this one included, that had no answer. `restarts`: how often the first
    cells were asked anew.
    """
    lost = [(p, a) for p, a in observed.failures if not a.dropped and any(p is q for q in decision.proposals)]
    for loss in lost:
        if not _bearable(loss[0].role, decision, observed, lost, unanswered, restarts):
            return loss
    return None


def _bearable(
    role: str, decision: Decision, observed: Observed, lost: Sequence[Loss], unanswered: int, restarts: int
) -> bool:
    if role == "lattice constant":
        asked = [p for p in decision.proposals if p.role == role]
        return len(asked) - sum(p.role == role for p, _ in lost) >= POINTS
    if role == "noise":
        return bool(observed.equal)
    if role == "strain":
        return sum(plus.decision == decision.number for plus, _ in observed.strain_pairs()) >= PAIRS
    if role == "training":
        return bool(observed.defects) or restarts < RESTARTS
    if role in (CONFIRMATION, "isolated atom"):
        return True
    return role == "verification" and unanswered < VERIFICATIONS
