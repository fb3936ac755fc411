"""Continuous rounds: the next decision is made before every call of the last has come (decisions A1, A9).

A decision needs its verification call with the references, and all it asked for where it has none; strained cells after
the first, force constants and speculative calls may come later and are read by a later decision, at their place in the
order of the record. Pure: what was open when a decision was made is part of its state, so that it replays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from farfield.service.campaign.decision import Answer, Decision
from farfield.service.campaign.state import State

__all__ = [
    "OPEN",
    "SPECULATIVE",
    "TAKEN_BACK",
    "Earlier",
    "needed",
    "open_now",
    "split",
    "still_open",
    "taken_back",
    "unpaying",
]

TRAILING = ("strain", "force constants")
"""Roles that a decision with a verification call need not wait for."""
SPECULATIVE = "speculation"
"""Term of the calls that nothing waits for."""
TAKEN_BACK = "taken_back"
"""Key of a decision's summary: the places, [decision, ordinal], that no longer pay. What has begun may finish."""
OPEN = "open"
"""Key of a decision's summary: the numbers of earlier decisions of which something is still open."""

Earlier = Sequence[tuple[Decision, Sequence[Answer]]]
"""Earlier decisions with answers to what was open of them."""


def needed(decision: Decision) -> set[int]:
    """Ordinals of `decision` without whose answers there is no next decision, once there are strained cells."""
    verified = any(p.role == "verification" for p in decision.proposals)
    return {p.ordinal for p in decision.proposals if p.term != SPECULATIVE and not (verified and p.role in TRAILING)}


def split(decision: Decision, answers: Sequence[Answer]) -> tuple[Decision, list[Answer]]:
    """`decision` cut down to what is settled, with the answers to that.

    The displaced cells of one supercell are one label: they are settled together.
    """
    held = {a.ordinal for a in answers if a.pending}
    sizes = {p.rung for p in decision.proposals if p.ordinal in held and p.role == "force constants"}
    there = {a.ordinal for a in answers}
    kept = tuple(
        p
        for p in decision.proposals
        if p.ordinal in there and p.ordinal not in held and not (p.role == "force constants" and p.rung in sizes)
    )
    own = {p.ordinal for p in kept}
    return replace(decision, proposals=kept), [a for a in answers if a.ordinal in own]


def open_now(decision: Decision, answers: Sequence[Answer], earlier: Earlier) -> list[list[int | str]]:
    """[decision, ordinal, role] of all that is not settled, as `State.open` keeps it."""
    out: list[list[int | str]] = []
    for d, told in (*earlier, (decision, answers)):
        settled = {p.ordinal for p in split(d, told)[0].proposals}
        there = {a.ordinal for a in told}
        out += [[d.number, p.ordinal, p.role] for p in d.proposals if p.ordinal in there - settled]
    return sorted(out, key=lambda x: (int(x[0]), int(x[1])))


def unpaying(state: State, small: bool, within: bool) -> list[list[int]]:
    """Open places that no longer pay: all once the campaign is `within` its tolerance for good; once the estimate is
    `small` enough nothing is bought for a far-field term any more (as in `proposals.choice`)."""
    return [[int(n), int(k)] for n, k, role in state.open if within or (small and role in TRAILING)]


def taken_back(decisions: Iterable[Decision]) -> Collection[tuple[int, int]]:
    """All that the decisions took back."""
    return {(int(n), int(k)) for d in decisions for n, k in d.summary.get(TAKEN_BACK, ())}


def still_open(state: State, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]) -> Earlier:
    """What `state` has open, with what came of it by now: for `Loop.tell`."""
    out = []
    for d, told in zip(decisions, answers, strict=False):
        own = {int(k) for n, k, _ in state.open if n == d.number}
        if own:
            out.append((d, [a for a in told if a.ordinal in own]))
    return out
