"""What a rung cannot see, and the range in which an estimate is believed, in a campaign on EMT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.assessment import assess
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.summary import LINEAR, summarise
from farfield.service.estimates import Estimate
from farfield.service.estimates.reach import HIDDEN

EMT = EMTOracle()


@pytest.fixture(scope="module")
def loop() -> Loop:
    """Four verified rungs: 2x2x3, 2x3x3, 3x3x3, 3x3x4."""
    sections: dict[str, Any] = {
        "target": {"size": 5, "tol_geo": 1e-5, "tol_energy": 1e-5},
        "surrogate": {"level": 1, "max_level": 2},
    }
    out = Loop(CampaignConfig.from_mapping(sections), OracleInfo("emt"))
    while len(out.state.estimates) < 4:
        asked = out.ask()
        assert isinstance(asked, Decision)
        answers = []
        for p in asked.proposals:
            v = EMT.evaluate(p.atoms, p.kinds).values
            answers.append(Answer(p.ordinal, f"{asked.number}/{p.ordinal}", *(v.get(k) for k in "EFV")))
        out.tell(asked, answers)
    return out


def estimates(loop: Loop) -> list[Estimate]:
    return [Estimate.from_json(e) for e in loop.state.estimates]


def test_only_a_longer_edge_sees_afresh(loop: Loop) -> None:
    assert [e.rung for e in estimates(loop)] == [(2, 2, 3), (2, 3, 3), (3, 3, 3), (3, 3, 4)]
    assert [e.fresh for e in estimates(loop)] == [True, False, False, True]


def test_a_narrow_rung_hides_a_share_of_the_last_fresh_estimate(loop: Loop) -> None:
    first, second, third, fourth = estimates(loop)
    assert first.hidden == fourth.hidden == 0.0
    assert second.hidden == pytest.approx(HIDDEN * first.eta_geo)  # half width 3.6 Å, EMT reaches farther
    for e in (second, third):
        seen = e.assembled + e.v + e.fold
        assert e.eta_geo == pytest.approx(np.hypot(seen, e.hidden))


def test_an_estimate_far_outside_the_linear_range_is_not_believed(loop: Loop) -> None:
    label = next(d for d in loop.observed.defects if d.size == (3, 3, 4))
    assert loop.solution is not None
    arguments = loop.observed, loop.problem, next(iter(loop.observed.references.values()))[0]
    for force, believed in ((0.0, True), (5.0, False)):
        pushed = label.forces.copy()
        near = int(np.argmin(np.linalg.norm(label.atoms.positions - label.atoms.positions[0], axis=1)))
        pushed[near] += force
        result = assess(loop.solution, replace(label, forces=pushed), *arguments)
        move = np.linalg.norm(result.geometry.solution, axis=1).max()
        assert bool(move < LINEAR * loop.problem.host.nearest) is believed
        e = summarise(9, label, result, loop.state, loop.problem, loop.solution, arguments[2], loop.observed)
        assert e.gates["linear range"] is believed
        assert e.believed <= believed
