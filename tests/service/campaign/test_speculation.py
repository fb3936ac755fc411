"""What may be bought ahead of the loop: worth a quarter of the best candidate, and within its share (decisions A9)."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign import proposing
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.speculation import ahead, relative_cost
from farfield.service.proposals.opening import Candidate

EMT = EMTOracle()
PLENTY = 1e9
"""Spent cost of which no share is ever too small."""


class Moment:
    """What `ahead` was asked with when a campaign verified on a rung above its first."""

    def __init__(self, *arguments: Any) -> None:
        self.problem, state, self.solution, posterior, row, bought, self.kinds, self.number = arguments
        self.state, self.fit, self.bought = copy(state), (posterior, row), list(bought)

    def ahead(self, bought: list[Candidate], exponent: float | None = None, **state: float) -> list[Candidate]:
        problem, now = self.problem, copy(self.state)
        if exponent is not None:
            cost = problem.config.cost.model_copy(update={"exponent": exponent})
            problem = replace(problem, config=problem.config.model_copy(update={"cost": cost}))
        for name, value in ({"spent": PLENTY, "speculated": 0.0} | state).items():
            setattr(now, name, value)
        return ahead(problem, now, self.solution, *self.fit, bought, self.kinds, self.number)


@pytest.fixture(scope="module")
def moment() -> Moment:
    moments: list[Moment] = []

    def keep(*arguments: Any) -> list[Candidate]:
        moments.append(Moment(*arguments))
        return []

    config = {
        "campaign": {"seed": 3},
        "host": {"lattice_constant": 3.59},
        "target": {"size": 5, "tol_geo": 0.002, "tol_energy": 0.001},
        "surrogate": {"level": 0},
        "decisions": {"rounds": "continuous", "speculation": 0.5},
    }
    loop = Loop(CampaignConfig.from_mapping(config), OracleInfo("emt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposing, "ahead", keep)
        while not any(m.state.rung not in (None, m.problem.first_size) for m in moments):
            decision = loop.ask()
            assert isinstance(decision, Decision), "the campaign ended on its first rung"
            answers = []
            for p in decision.proposals:
                v = EMT.evaluate(p.atoms, p.kinds).values
                answers.append(Answer(p.ordinal, f"c{decision.number}.{p.ordinal}", v.get("E"), v.get("F"), v.get("V")))
            loop.tell(decision, answers)
    return moments[-1]


def test_a_cell_that_the_round_buys_itself_is_not_worth_it_again(moment: Moment) -> None:
    """Its gain is what is left after the round's own calls: less than a quarter once they hold the same cells."""
    alone = moment.ahead([])
    assert alone
    assert not moment.ahead(alone * 4)


def test_a_dear_cell_is_not_worth_it_beside_a_cheap_one(moment: Moment) -> None:
    """Where the cost grows fast with the atoms a cell of the higher rung gains less than a quarter per cost."""
    sizes = {c[4] for c in moment.ahead([], exponent=0.0)}
    assert moment.state.rung in sizes
    assert {c[4] for c in moment.ahead([], exponent=6.0)} == {moment.problem.first_size}


def test_the_share_bounds_the_cost_of_all(moment: Moment) -> None:
    """Also of those that were bought ahead before."""
    whole = moment.ahead([])
    cost = relative_cost(moment.problem, [(len(c[0]), c[2]) for c in whole])
    for share in np.linspace(0.0, 1.0, 6):
        spent = share * cost / moment.problem.config.decisions.speculation
        for speculated in (0.0, 0.3 * share * cost):
            found = moment.ahead([], spent=spent, speculated=speculated)
            own = relative_cost(moment.problem, [(len(c[0]), c[2]) for c in found])
            assert own <= share * cost - speculated + 1e-9
            assert found or share * cost - speculated < min(
                relative_cost(moment.problem, [(len(c[0]), c[2])]) for c in whole
            )
