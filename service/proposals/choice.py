"""The choice of the next action from the estimate's dominant term (theory.md section 4, step 5).

The ladder's next rung by default; FC or V when the far field dominates. Rows that were bought for the estimate first go
into the fit, then weigh more, and only then are more of them bought.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farfield.service.cells import Size
from farfield.service.estimates import Estimate

__all__ = ["Action", "Facts", "choose", "name"]

FC_BOOST_LIMIT = 4.0
"""w_FC is doubled at most this far before a larger FC cell is bought."""


@dataclass(frozen=True)
class Facts:
    """What the choice knows besides the estimate: flags of the fit, the FC cell, and the next sizes."""

    fit_fc: bool
    fit_v: bool
    fc_boost: float
    fc_size: Size | None
    next_fc: Size | None
    next_rung: Size
    tol_geo: float


@dataclass(frozen=True)
class Action:
    """What the next round does. `verify` is the rung of the verification call, None to re-estimate on the old one."""

    verify: Size | None
    reason: str
    fc_size: Size | None = None
    strain: bool = False
    fit_fc: bool = False
    fit_v: bool = False
    fc_boost: float = 1.0


def name(size: Size) -> str:
    """ "3x3x4"."""
    return "x".join(str(n) for n in size)


def choose(e: Estimate, facts: Facts) -> Action:
    """The next action and its reason in one sentence."""
    parts = {"core": e.core, "fc": e.fc, "v": e.v, "fold": e.fold}
    largest = max(parts, key=lambda k: parts[k])
    rung = facts.next_rung
    base = Action(rung, "", None, False, facts.fit_fc, facts.fit_v, facts.fc_boost)
    if e.guarded_geo <= facts.tol_geo:
        return _with(
            base, f"{_verdict(e)}: verify on {name(rung)}"
        )  # nothing is bought for a term that is small enough
    quiet = e.guarded_geo - e.theta * e.fold <= facts.tol_geo
    if largest == "fold" and facts.next_fc is not None:
        if quiet:
            text = f"folding of the force constants dominates: buy FC on {name(facts.next_fc)} and estimate again"
            return _with(base, text, verify=None, fc_size=facts.next_fc)
        text = f"folding of the force constants dominates: buy FC on {name(facts.next_fc)}, verify on {name(rung)}"
        return _with(base, text, fc_size=facts.next_fc)
    if largest == "fc":
        if not facts.fit_fc:
            return _with(base, f"FC tail dominates: put FC into the fit, verify on {name(rung)}", fit_fc=True)
        if facts.fc_boost < FC_BOOST_LIMIT:
            text = f"FC tail dominates: double the weight of FC, verify on {name(rung)}"
            return _with(base, text, fc_boost=2 * facts.fc_boost)
        if facts.next_fc is not None:
            text = f"FC tail dominates: buy FC on {name(facts.next_fc)}, verify on {name(rung)}"
            return _with(base, text, fc_size=facts.next_fc)
    if largest == "v":
        if not facts.fit_v:
            return _with(base, f"V tail dominates: put virials into the fit, verify on {name(rung)}", fit_v=True)
        return _with(base, f"V tail dominates: buy strained cells, verify on {name(rung)}", strain=True)
    return _with(base, f"core residual dominates: verify on {name(rung)}")


def _verdict(e: Estimate) -> str:
    return "geometry within tolerance, confirm" if e.believed else "a gate failed"


def _with(base: Action, reason: str, **changes: Any) -> Action:
    values = {**base.__dict__, "reason": reason, **changes}
    return Action(**values)
