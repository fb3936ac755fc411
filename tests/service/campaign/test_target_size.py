"""The target cell grows before a campaign ends in one that is too small for its energy (decisions C13)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign import refit, target_size
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Stop
from farfield.service.campaign.loop import Loop

EMT = EMTOracle()
INFO = OracleInfo("emt")
Played = tuple[Loop, list[Decision], list[list[Answer]], Stop | None]


def config(tol_energy: float) -> CampaignConfig:
    return CampaignConfig.from_mapping(
        {"host": {"lattice_constant": 3.59}, "target": {"size": 4, "tol_geo": 0.05, "tol_energy": tol_energy}}
    )


def play(cfg: CampaignConfig) -> Played:
    loop, decisions, told = Loop(cfg, INFO), list[Decision](), list[list[Answer]]()
    while isinstance(asked := loop.ask(), Decision) and len(decisions) < 9:
        answers = []
        for p in asked.proposals:
            v: dict[str, Any] = EMT.evaluate(p.atoms, ("E", "F", "V")).values
            answers.append(Answer(p.ordinal, f"{asked.number}-{p.ordinal}", v["E"], v["F"], v["V"]))
        decisions.append(asked)
        told.append(answers)
        loop.tell(asked, answers)
    return loop, decisions, told, asked if isinstance(asked, Stop) else None


@pytest.fixture(scope="module")
def small() -> Played:
    """A tolerance of 0.45 meV, in a cell of 255 atoms whose images are worth 0.2."""
    return play(config(0.00045))


def test_a_target_too_small_for_the_energy_grows(small: Played) -> None:
    loop, _, _, stop = small
    assert loop.state.edge == 6
    assert loop.problem.target.size == (6, 6, 6)
    assert loop.state.u is not None
    assert len(loop.state.u) == loop.problem.target.natoms == 863
    assert stop is not None
    assert stop.converged
    assert "enlarged to 863 atoms" in stop.reason
    assert 0 < loop.state.estimates[-1]["cell"] < 0.00045 / target_size.SHARE
    assert loop.solution is not None
    assert loop.solution.target.natoms == 863
    raw = loop.state.estimates[-1]["formation_energy_raw"]
    assert loop.solution.formation_energy == pytest.approx(raw, abs=1e-9)


def test_growing_costs_no_call_and_changes_the_energy_by_what_was_seen(small: Played) -> None:
    """Against the same campaign with a wide tolerance, which ends in the small cell on the same calls."""
    loop, decisions, _, _ = small
    wide, others, _, _ = play(config(0.0007))
    calls = [[p.atoms.positions.shape for d in ds for p in d.proposals] for ds in (decisions, others)]
    assert calls[0] == calls[1]
    last, before = (x.state.estimates[-1] for x in (loop, wide))
    assert wide.state.edge is None
    assert abs(last["formation_energy"] - before["formation_energy"]) == pytest.approx(before["cell"], rel=0.3)


def test_a_wide_tolerance_keeps_the_target() -> None:
    loop, _, _, stop = play(config(0.01))
    assert stop is not None
    assert stop.converged
    assert loop.state.edge is None
    assert loop.state.estimates[-1]["cell"] < 0.01 / target_size.SHARE


def test_a_campaign_whose_target_grew_resumes_bit_for_bit(small: Played) -> None:
    loop, decisions, told, stop = small
    for n in range(3, len(decisions)):
        asked = Loop.restore(config(0.00045), INFO, decisions[:n], told[:n]).ask()
        assert isinstance(asked, Decision)
        assert asked.state == decisions[n].state
    last = Loop.restore(config(0.00045), INFO, decisions, told)
    assert last.ask() == stop
    assert last.state.to_bytes() == loop.state.to_bytes()


def test_a_solution_far_from_the_last_is_another_basin(small: Played) -> None:
    loop, _, _, _ = small
    solution, state, problem = loop.solution, loop.state, loop.problem
    assert solution is not None
    assert state.u is not None
    assert refit._same_basin(solution, state, problem)
    eta = max(state.estimates[-1]["eta_geo"], problem.config.target.tol_geo)
    kept, move = state.u, np.random.default_rng(0).normal(size=state.u.shape)
    for share, same in ((0.5, True), (2.0, False)):
        state.u = solution.u + share * refit.MOVED * eta / problem.target.norm(move) * move
        assert np.linalg.norm(state.u - solution.u, axis=1).max() < 0.5 * problem.host.nearest
        assert refit._same_basin(solution, state, problem) is same
    state.u = kept
