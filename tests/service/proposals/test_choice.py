from __future__ import annotations

from dataclasses import replace

import pytest

from farfield.service.estimates import Estimate
from farfield.service.proposals.choice import FC_BOOST_LIMIT, Facts, choose, name

FACTS = Facts(
    fit_fc=False,
    fit_v=False,
    fc_boost=1.0,
    fc_size=(3, 3, 3),
    next_fc=(4, 4, 4),
    next_rung=(3, 3, 4),
    tol_geo=0.02,
)


def estimate(core: float = 0.0, fc: float = 0.0, v: float = 0.0, fold: float = 0.0, **more: object) -> Estimate:
    values = dict.fromkeys(Estimate.__dataclass_fields__, 0.0)
    values |= {"decision": 3, "rung": (3, 3, 3), "complete": True, "natoms": 107, "gates": {"relaxed": True}}
    values |= {"core": core, "fc": fc, "v": v, "fold": fold, "assembled": max(core, fc), "soft": False, "reason": ""}
    values["eta_geo"] = max(core, fc) + v + fold
    return Estimate(**{**values, **more})  # type: ignore[arg-type]


def test_the_next_rung_by_default() -> None:
    action = choose(estimate(core=0.1, fc=0.05), FACTS)
    assert action.verify == (3, 3, 4)
    assert action.reason == "core residual dominates: verify on 3x3x4"
    assert (action.fc_size, action.strain, action.fit_fc, action.fit_v) == (None, False, False, False)


def test_fc_first_goes_into_the_fit_then_weighs_more_then_is_bought() -> None:
    e = estimate(core=0.01, fc=0.1)
    first = choose(e, FACTS)
    assert first.fit_fc
    assert first.fc_size is None
    boosts = []
    facts = replace(FACTS, fit_fc=True)
    while (action := choose(e, facts)).fc_size is None:
        boosts.append(action.fc_boost)
        facts = replace(facts, fc_boost=action.fc_boost)
    assert boosts == [2.0, FC_BOOST_LIMIT]
    assert action.fc_size == (4, 4, 4)
    assert "FC tail dominates: buy FC on 4x4x4" in action.reason


def test_v_first_goes_into_the_fit_then_is_bought() -> None:
    e = estimate(core=0.01, v=0.1)
    assert choose(e, FACTS).fit_v
    action = choose(e, replace(FACTS, fit_v=True))
    assert action.strain
    assert "V tail dominates" in action.reason


def test_folding_buys_a_larger_fc_cell() -> None:
    busy = choose(estimate(core=0.05, fold=0.06), FACTS)
    assert (busy.fc_size, busy.verify) == ((4, 4, 4), (3, 3, 4))
    quiet = choose(estimate(core=0.005, fold=0.05), FACTS)  # only folding keeps the tolerance away
    assert (quiet.fc_size, quiet.verify) == ((4, 4, 4), None)
    no_room = choose(estimate(core=0.005, fold=0.05), replace(FACTS, next_fc=None))
    assert no_room.fc_size is None
    assert no_room.verify == (3, 3, 4)


def test_a_good_estimate_is_confirmed_and_a_failed_gate_said() -> None:
    assert "confirm" in choose(estimate(core=0.001), FACTS).reason
    failed = estimate(core=0.001, gates={"relaxed": True, "same basin": False})
    assert "gate failed" in choose(failed, FACTS).reason


@pytest.mark.parametrize("complete", [True, False])
def test_theta_and_belief(complete: bool) -> None:
    e = estimate(core=0.01, complete=complete)
    assert e.theta == (1.5 if complete else 2.5)
    assert e.within(0.015001 if complete else 0.025001, 1.0)
    assert not e.within(0.0149 if complete else 0.0249, 1.0)
    assert not replace(e, gates={"solver": False}).within(1.0, 1.0)
    assert not replace(e, eta_energy=-0.1).within(1.0, 0.1)  # the sign of eta_E does not matter


def test_json_round_trip() -> None:
    e = estimate(core=0.1, parametric_geo=None)
    assert Estimate.from_json({**e.to_json(), "of a later version": 1}) == e
    assert name(e.rung) == "3x3x3"
