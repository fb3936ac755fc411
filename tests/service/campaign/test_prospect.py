"""What is before a campaign, read off the pure loop: costs of whole decisions, references included, and no change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Proposal, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.prospect import Prospect, prospect
from farfield.service.proposals.choice import Action

CONFIG = CampaignConfig.from_mapping(
    {
        "target": {"size": 5, "tol_geo": 0.001, "tol_energy": 0.05},
        "surrogate": {"level": 1, "max_level": 1},
        "host": {"lattice_constant": 3.59},
    }
)
ORACLE = EMTOracle()
ROUNDS = 4


def seconds(p: Proposal) -> float:
    """What a call is said to take: displaced cells half of what others do."""
    share = 0.5 if p.role == "force constants" else 1.0
    return share * (1.0 + 0.02 * max(len(p.atoms), 8) ** 1.5)


def answers(decision: Decision) -> list[Answer]:
    out = []
    for p in decision.proposals:
        v = ORACLE.evaluate(p.atoms, p.kinds).values
        energy = None if "E" not in v else float(v["E"])
        key = f"{decision.number}-{p.ordinal}"
        out.append(Answer(p.ordinal, key, energy, v.get("F"), v.get("V"), core_seconds=seconds(p)))
    return out


@pytest.fixture(scope="module")
def rounds() -> tuple[Loop, list[tuple[Prospect, Decision]]]:
    """A campaign whose oracle's mesh is not known, so that every rung has a reference: prospect, then decision."""
    loop = Loop(CONFIG, OracleInfo("emt", "fixed", True))
    spent, out = 0.0, []
    for _ in range(ROUNDS):
        found = prospect(loop, spent)
        after = loop.ask()
        assert isinstance(after, Decision)
        assert isinstance(found.following, Decision)
        assert found.following.state == after.state
        out.append((found, after))
        spent += sum(map(seconds, after.proposals))
        loop.tell(after, answers(after))
    return loop, [*out, (prospect(loop, spent), after)]


def test_nothing_is_forecast_before_an_estimate(rounds: tuple[Loop, list[tuple[Prospect, Decision]]]) -> None:
    _, history = rounds
    first, _ = history[0]
    assert not first.cost.timed
    assert (first.forecast, first.reliefs, first.history) == (None, (), ())
    assert first.expected == sum(first.cost(len(p.atoms), p.role) for p in first.open)


def test_a_step_costs_what_its_decision_buys_references_too(
    rounds: tuple[Loop, list[tuple[Prospect, Decision]]],
) -> None:
    _, history = rounds
    with_forecast = [(p, d) for p, d in history[:-1] if p.forecast is not None]
    assert with_forecast
    for found, decision in with_forecast:
        assert found.forecast is not None
        bought = sum(map(seconds, decision.proposals))
        assert {p.role for p in decision.proposals} >= {"verification", "reference"}
        assert found.forecast.steps[0].rung.cost == pytest.approx(bought, rel=0.05)
        assert found.expected == found.forecast.steps[0].rung.cost
        second = found.forecast.steps[1].rung
        cells = second.size[0] * second.size[1] * second.size[2]
        reference = found.cost(4 * cells, "reference")
        assert second.cost == pytest.approx(found.cost(second.natoms, "verification") + reference)


def test_what_the_next_decision_buys_beside_the_rung_is_in_its_first_step(
    rounds: tuple[Loop, list[tuple[Prospect, Decision]]],
) -> None:
    loop, _ = rounds
    assert loop._rounds is not None
    assert loop._rounds.action is not None
    plain = prospect(loop, 0.0)
    kept = loop._rounds.action, loop.state.fc_size
    assert isinstance(plain.following, Decision)
    rung = plain.following.proposals[-1].rung
    assert rung == (3, 3, 3)
    try:
        loop._rounds.action = Action(rung, "buy FC too", fc_size=(4, 4, 4))
        dear = prospect(loop, 0.0)
        loop.state.rung, loop.state.fc_size = (2, 3, 3), kept[1]  # asking had moved them on
        loop._rounds.action = Action(None, "FC alone", fc_size=(4, 4, 4))
        alone = prospect(loop, 0.0)
    finally:
        loop._rounds.action, loop.state.fc_size = kept
        loop.state.rung = rung
    assert plain.forecast is not None and dear.forecast is not None and alone.forecast is not None  # noqa: PT018
    extra = plain.cost(256, "force constants")
    for other in (dear, alone):
        assert other.forecast is not None
        steps = other.forecast.steps
        assert steps[0].rung.cost == pytest.approx(plain.forecast.steps[0].rung.cost + extra)
        assert steps[1].rung.cost == plain.forecast.steps[1].rung.cost
    assert dear.expected == pytest.approx(plain.expected + extra)
    assert {r.purchase.what for r in dear.reliefs if r.purchase.term == "fold"} == {"FC on 4x4x4"}


def test_a_decision_under_way_misses_what_has_no_answer(
    rounds: tuple[Loop, list[tuple[Prospect, Decision]]],
) -> None:
    loop, history = rounds
    _, decision = history[-2]
    found = prospect(loop, 1.0, decision, {decision.proposals[0].ordinal})
    assert found.following is decision
    assert found.open == decision.proposals[1:]
    assert found.expected == pytest.approx(sum(found.cost(len(p.atoms), p.role) for p in found.open))


def test_at_the_end_nothing_is_before(rounds: tuple[Loop, list[tuple[Prospect, Decision]]]) -> None:
    loop, _ = rounds
    stop = Stop("tolerance met", True, 0)
    kept, loop._stop = loop._stop, stop
    try:
        found = prospect(loop, 5.0)
    finally:
        loop._stop = kept
    assert found.following is stop
    assert (found.open, found.expected, found.forecast, found.reliefs) == ((), 0.0, None, ())
    assert found.history
    assert replace(found, following=stop) == found
