"""Campaigns with calls that are never answered: which go on, and to the same defect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from farfield.errors import CampaignError
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Proposal, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.refit import restored
from farfield.service.campaign.state import State

EMT = EMTOracle()
Lost = Callable[[Decision, Proposal], bool]


def labelled(decision: Decision, p: Proposal) -> Answer:
    v = EMT.evaluate(p.atoms, ("E", "F", "V")).values
    return Answer(p.ordinal, f"{decision.number}/{p.ordinal}", float(v["E"]), v["F"], v["V"])


def play(lost: Lost, rounds: int = 5, more: dict[str, Any] | None = None) -> tuple[Loop, Stop | None, list[Decision]]:
    sections: dict[str, Any] = {
        "target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05},
        "surrogate": {"level": 0},
        **(more or {}),
    }
    loop = Loop(CampaignConfig.from_mapping(sections), OracleInfo("emt"))
    told: list[Decision] = []
    for _ in range(rounds):
        asked = loop.ask()
        if isinstance(asked, Stop):
            return loop, asked, told
        answers = []
        for p in asked.proposals:
            if lost(asked, p):
                answers.append(Answer(p.ordinal, f"{asked.number}/{p.ordinal}", None, None, None, "crashed"))
                continue
            answers.append(labelled(asked, p))
        told.append(asked)
        loop.tell(asked, answers)
    return loop, None, told


def first_of(role: str, count: int = 1) -> Lost:
    """Whether a proposal is among the first `count` of its role in its decision."""

    def lost(decision: Decision, p: Proposal) -> bool:
        return p in [q for q in decision.proposals if q.role == role][:count]

    return lost


@pytest.mark.parametrize(("role", "count"), [("lattice constant", 2), ("strain", 3)])
def test_what_has_a_substitute_is_done_without(role: str, count: int) -> None:
    whole, _, _ = play(lambda *_: False)
    loop, stop, _ = play(first_of(role, count))
    assert stop is None or stop.exit_code != 1
    assert whole.solution is not None
    assert loop.solution is not None
    target = whole.problem.target
    assert loop.problem.host.a == pytest.approx(whole.problem.host.a, rel=1e-4)
    assert target.norm(loop.solution.u - whole.solution.u) < 0.25 * target.norm(whole.solution.u)


def test_a_lost_first_cell_is_asked_again_at_another_rattle() -> None:
    def lost(decision: Decision, p: Proposal) -> bool:
        return p.role == "training" and decision.number == 1

    whole, _, _ = play(lambda *_: False)
    loop, stop, told = play(lost, 6)
    assert stop is None or stop.exit_code != 1
    (first,), (again,) = ([p for p in d.proposals if p.role == "training"] for d in told[1:3])
    assert [p.role for p in told[2].proposals] == ["training"]
    assert again.rung == first.rung
    assert not np.array_equal(again.atoms.positions, first.atoms.positions)
    assert "again at another rattle" in told[2].reason
    assert whole.solution is not None
    assert loop.solution is not None
    target = whole.problem.target
    assert target.norm(loop.solution.u - whole.solution.u) < 0.25 * target.norm(whole.solution.u)


@pytest.mark.parametrize(
    ("role", "count"),
    [("lattice constant", 3), ("reference", 1), ("check", 1), ("force constants", 1), ("strain", 7), ("training", 1)],
)
def test_what_has_none_ends_the_campaign_and_is_named(role: str, count: int) -> None:
    _, stop, _ = play(first_of(role, count))
    assert stop is not None
    assert stop.exit_code == 1
    assert f"no answer for a {role} cell" in stop.reason
    assert "crashed" in stop.reason


def test_a_lost_verification_is_asked_again_at_another_rattle_and_once_only() -> None:
    def first(decision: Decision, p: Proposal) -> bool:
        return p.role == "verification" and decision.number == 2

    loop, _, told = play(first)
    (lost,), (again,) = ([p for p in d.proposals if p.role == "verification"] for d in told[2:4])
    assert again.rung == lost.rung
    assert not np.array_equal(again.atoms.positions, lost.atoms.positions)
    assert "again at another rattle" in told[3].reason
    assert loop.state.estimates[0]["decision"] == 3
    assert loop.state.unanswered == 0
    _, stop, told = play(first_of("verification"))
    assert stop is not None
    assert "no answer for a verification cell" in stop.reason
    assert len(told) == 4


def test_a_lost_verification_leaves_the_jump_against_the_round_before_it() -> None:
    sections: dict[str, Any] = {"target": {"size": 5, "tol_geo": 0.002, "tol_energy": 0.002}}

    def lost(decision: Decision, p: Proposal) -> bool:
        return p.role == "verification" and decision.number == 3

    whole, _, _ = play(lambda *_: False, 4, sections)
    loop, _, _ = play(lost, 5, sections)
    assert [e["decision"] for e in loop.state.estimates] == [2, 4]
    assert loop.state.estimates[-1]["jump"] == pytest.approx(whole.state.estimates[-1]["jump"], rel=0.1)


def test_a_label_that_came_after_its_decision_was_told_does_not_change_a_resumed_campaign() -> None:
    loop, _, told = play(first_of("strain"), 3)
    following = loop.ask()
    assert isinstance(following, Decision)
    late = [[labelled(d, p) for p in d.proposals] for d in [*told, following]]
    resumed = Loop.restore(loop.config, loop.oracle, [*told, following], late)
    loop.tell(following, late[-1])
    assert resumed.observed.keys == loop.observed.keys
    ours, theirs = loop.ask(), resumed.ask()
    assert isinstance(ours, Decision)
    assert isinstance(theirs, Decision)
    assert theirs.state == ours.state


def test_a_stored_surrogate_of_another_basis_is_refused() -> None:
    loop, _, _ = play(lambda *_: False, 2)
    state = State.from_bytes(loop.ask().state)  # type: ignore[union-attr]
    assert state.basis is not None
    state.basis["core"] = 0.3
    with pytest.raises(CampaignError, match="another basis"):
        restored(state, loop.problem)
