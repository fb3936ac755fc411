from __future__ import annotations

import numpy as np

from farfield.service.proposals import PowerCost, loss_weights
from farfield.service.proposals.weights import ENERGY_WEIGHT, FC_FLOOR, V_FLOOR


def weights(**changes: object) -> dict[str, float]:
    values = {
        "tail_l2": 0.4, "tail_l4": 0.2, "s2": 26.0, "a": 3.6, "n_conf": 9, "n_strain": 12, "strain2": 4e-4,
        "with_fc": True, "with_v": True, "fc_boost": 1.0,
    }  # fmt: skip
    return loss_weights(**{**values, **changes})  # type: ignore[arg-type]


def test_formulas_of_theory_section_3() -> None:
    w = weights()
    assert w["F"] == 1.0
    assert w["E"] == ENERGY_WEIGHT == 5.0
    assert np.isclose(w["FC"], np.sqrt(3) * 0.4 * 3)
    assert np.isclose(w["V"], 3 * 0.04 / (26.0 * 4e-4 * 0.8 * 3.6 * np.sqrt(12)))


def test_a_loss_that_is_a_sum_scales_with_the_root_of_the_cells() -> None:
    assert np.isclose(weights(n_conf=36)["FC"] / weights()["FC"], 2.0)
    assert np.isclose(weights(n_conf=36)["V"] / weights()["V"], 2.0)
    assert np.isclose(weights(fc_boost=2.0)["FC"] / weights()["FC"], 2.0)


def test_kinds_left_out_and_floors() -> None:
    assert weights(with_fc=False, with_v=False) | {"E": 0, "F": 0} == {"E": 0, "F": 0, "V": 0.0, "FC": 0.0}
    assert weights(tail_l2=1e-9)["FC"] == FC_FLOOR
    assert weights(tail_l4=1e-9)["V"] == V_FLOOR
    assert weights(tail_l2=None, tail_l4=None)["FC"] == 4.0


def test_power_cost() -> None:
    cost = PowerCost(2.5)
    assert cost(8) == cost(1) == 1.0
    assert np.isclose(cost(64), 8**2.5)
    assert cost.to_json() == {"model": "power", "exponent": 2.5}
