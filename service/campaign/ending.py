"""How a campaign ends, in words that say what to do next. Exit codes: `decision.Stop`."""

from __future__ import annotations

from farfield.oracles.noise import Noise
from farfield.service.campaign.decision import Answer, Proposal, Stop
from farfield.service.campaign.losses import ADVICE
from farfield.service.cells import Size
from farfield.service.estimates import Estimate
from farfield.service.proposals.choice import name

__all__ = [
    "another_state",
    "bad_answer",
    "basis_limited",
    "ladder_ended",
    "no_answer",
    "noise_limited",
    "nothing_left",
    "nothing_succeeds",
    "refuted_answers",
    "tolerance_met",
    "unstable_host",
    "unusable_surrogate",
]

LONGEST = 160
"""Characters of an oracle's message that a reason repeats."""


def tolerance_met(first: Size, second: Size, grown: int | None = None) -> Stop:
    """Both tolerances hold on two successive rungs; `grown`: atoms of a target cell that was too small before."""
    where = f", in a target cell enlarged to {grown} atoms, for its energy hung on its size" if grown else ""
    return Stop(f"tolerance met on {name(first)} and {name(second)}{where}", True, 0)


def no_answer(p: Proposal, a: Answer) -> Stop:
    """A calculation was given up."""
    advice = ADVICE.get(a.failure or "", "see `farfield status`, mend the oracle and run again")
    seen = said(a.failure, a.message) if a.failure else "missing kinds"
    return Stop(f"no answer for a {p.role} cell of {len(p.atoms)} atoms ({seen}); {advice}", False, 1)


def nothing_succeeds(count: int, failure: str, message: str) -> Stop:
    """The last `count` new calculations all failed, the last as `failure`."""
    seen = said(failure, message)
    advice = ADVICE.get(failure, "mend the oracle and run again")
    return Stop(
        f"nothing succeeds any more: the last {count} new calculations all failed, the last one: {seen}; {advice}",
        False,
        1,
    )


def said(failure: str, message: str | None) -> str:
    """A failure class with the message of a call, shortened; where its files lie, `farfield status` says."""
    text = " ".join((message or "").split()).partition("; its files are in ")[0]
    return f"{failure}: {text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'}" if text else failure


def bad_answer(fault: str) -> Stop:
    """The oracle check failed."""
    return Stop(f"bad answer: {fault}; mend the oracle's settings", False, 1)


def refuted_answers(count: int, why: str) -> Stop:
    """The oracle's answers keep being refuted, the last one as `why` says."""
    return Stop(
        f"bad answer: {count} labels were far off the prediction and not confirmed; the last: {why}; look at these "
        "calls (`farfield status`), mend the oracle's settings and start a campaign of another name",
        False,
        1,
    )


def nothing_left() -> Stop:
    """What a first fit needs was withdrawn."""
    return Stop(
        "no defect cell or no force constants are left to fit, for they were withdrawn; mend the oracle and start a "
        "campaign of another name",
        False,
        1,
    )


def another_state(why: str) -> Stop:
    """A cell stays in another electronic state though it started from its parent's moments."""
    return Stop(
        f"another electronic state: {why}, also from its parent's moments; energies of two states do not compare: fix "
        "the moments in the oracle's parameters and start a campaign of another name",
        False,
        3,
    )


def unstable_host(eigenvalue: float, size: Size) -> Stop:
    """The oracle's force constants have a negative eigenvalue, eV/Å^2."""
    return Stop(
        f"the oracle's own host lattice is unstable (force-constant eigenvalue {eigenvalue:.3f} eV/Å^2 on "
        f"{name(size)}); choose another lattice, lattice constant or oracle setting",
        False,
        1,
    )


def unusable_surrogate(failed: list[str], rounds: int) -> Stop:
    """Gates stay closed whatever is bought."""
    return Stop(
        f"the surrogate stays unusable ({', '.join(failed)}) after {rounds} extra training rounds; "
        "use a larger basis (surrogate.level) or cut-off",
        False,
        1,
    )


def ladder_ended(rung: Size, target: int) -> Stop:
    """The next rung is as large as the target cell."""
    return Stop(
        f"the ladder has reached the target cell ({max(rung)} cells per edge) before the tolerance; "
        f"a campaign of another name with target.size above {target} and this one's database.url finds what was bought",
        False,
        3,
    )


def noise_limited(e: Estimate, noise: Noise) -> Stop:
    """The core part of the estimate is no larger than what the oracle's force noise gives by itself."""
    return Stop(
        f"noise-limited: the core residual on {name(e.rung)} ({e.core:.4f} Å) keeps the tolerance away and is less "
        f"than twice what the oracle's force noise ({noise.force:.2g} eV/Å) gives by itself ({e.noise or 0.0:.4f} Å); "
        "tighten the oracle's convergence threshold, cut-off or grid, or widen target.tol_geo, in a "
        "campaign of another name",
        False,
        3,
    )


def basis_limited(seen: str, level: int, size: int, cutoff: float, top: int) -> Stop:
    """The largest basis allowed, `level` of `top` with `size` columns, does not learn what is bought; `cutoff` in Å."""
    wider = f"another surrogate.cutoff (now {cutoff:.2f} Å)"
    if level < top:
        advice = f"raise surrogate.max_level above {level} and run again, or start anew with {wider}"
    else:
        advice = f"there is no larger one: start anew with {wider}, or with wider tolerances"
    return Stop(
        f"basis-limited: {seen}, with the largest basis allowed (level {level}, {size} functions); {advice}", False, 3
    )
