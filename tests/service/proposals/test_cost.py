"""The cost models: the fitted law finds the one that made the times, whatever single calls do."""

from __future__ import annotations

import numpy as np
import pytest

from farfield.service.proposals.cost import FittedCost, PowerCost, Timing, cost_model, fit_cost

SIZES = (4, 32, 107, 143, 255)


def law(n: int, floor: float = 3.0, scale: float = 0.4, exponent: float = 2.2) -> float:
    return floor + scale * (max(n, 8) / 8) ** exponent


def timings(sizes=SIZES, role: str = "verification", **parts: float) -> list[Timing]:
    return [Timing(role, n, law(n, **parts)) for n in sizes]


@pytest.mark.parametrize("floor", [0.0, 3.0, 400.0])
@pytest.mark.parametrize("exponent", [1.0, 2.2, 3.0])
def test_the_law_that_made_the_times_is_found(floor: float, exponent: float) -> None:
    cost = fit_cost(timings(floor=floor, exponent=exponent), 2.5)
    assert cost.timed
    for n in (1, 50, 255, 500):
        assert cost(n) == pytest.approx(law(n, floor, 0.4, exponent), rel=0.03 if floor < 100 else 0.1)
    if floor < 100:
        assert cost.laws["EFV"].exponent == pytest.approx(exponent, abs=0.05)


def test_the_exponent_is_declared_until_three_sizes_are_timed() -> None:
    for sizes in ((107,), (4, 107), (1, 4, 8, 107)):  # up to eight atoms it is one size
        fitted = fit_cost(timings(sizes), 1.7).laws["EFV"]
        assert fitted.exponent == 1.7
        assert fitted(107) == pytest.approx(law(107), rel=1e-3)
    assert fit_cost(timings((4, 32, 107)), 1.7).laws["EFV"].exponent == pytest.approx(2.2, abs=0.1)


def test_two_sizes_fix_floor_and_scale() -> None:
    cost = fit_cost(timings((8, 107), exponent=2.5), 2.5)
    assert cost.laws["EFV"].floor == pytest.approx(3.0, rel=1e-2)
    assert cost(255) == pytest.approx(law(255, exponent=2.5), rel=1e-3)


def test_one_slow_call_does_not_bend_the_law() -> None:
    calm = fit_cost(3 * timings(), 2.5)
    slow = [*(3 * timings()), Timing("training", 32, 1e4), Timing("strain", 4, 900.0)]
    assert fit_cost(slow, 2.5)(500) == pytest.approx(calm(500), rel=1e-3)
    single = [t if t.natoms != 32 else Timing(t.role, 32, 1e3) for t in timings()]  # the only call of its size
    assert fit_cost(single, 2.5)(500) == pytest.approx(calm(500), rel=0.1)


def test_the_order_of_the_times_does_not_matter_and_lost_clocks_are_left_out() -> None:
    rng = np.random.default_rng(1)
    known = [Timing("training", t.natoms, t.core_seconds * rng.lognormal(0, 0.1)) for t in 4 * timings()]
    broken = [Timing("training", 107, s) for s in (0.0, -1.0, float("nan"), float("inf"))]
    shuffled = [(known + broken)[k] for k in rng.permutation(len(known) + len(broken))]
    assert fit_cost(shuffled, 2.5) == fit_cost(known, 2.5)


def test_noisy_times_of_a_floor_alone_do_not_explode() -> None:
    rng = np.random.default_rng(3)
    known = [Timing("training", n, 0.02 * rng.lognormal(0, 0.2)) for n in (4, 4, 4, 4, 31, 31, 47, 71, 107)]
    assert fit_cost(known, 2.5)(500) < 1.0  # five times the size of the last, fifty times its cost at the very most


def test_force_constants_have_a_law_of_their_own() -> None:
    cells = timings()
    one = [Timing("force constants", 108, 0.25 * law(108))]
    cost = fit_cost([*cells, *one], 2.5)
    for n in (32, 108, 256):  # one size: the shape of the others at its own level
        assert cost(n, "force constants") == pytest.approx(0.25 * cost(n, "verification"), rel=0.01)
    own = [Timing("force constants", n, law(n, 1.0, 0.1, 1.5)) for n in (32, 108, 256)]
    cost = fit_cost([*cells, *own], 2.5)
    assert cost.laws["FC"].exponent == pytest.approx(1.5, abs=0.05)
    assert cost.laws["EFV"].exponent == pytest.approx(2.2, abs=0.05)
    assert fit_cost(one, 2.5)(108, "verification") == pytest.approx(0.25 * law(108))  # better than no time at all


def test_without_times_it_is_the_declared_law() -> None:
    cost = cost_model("fitted", 2.5, [])
    assert isinstance(cost, FittedCost)
    assert not cost.timed
    assert cost(64) == PowerCost(2.5)(64) == 8**2.5
    assert cost_model("power", 2.5, timings()) == PowerCost(2.5)  # declared is declared
    assert PowerCost(2.5)(64, "force constants") == PowerCost(2.5)(64)


def test_json_round_trip() -> None:
    cost = fit_cost([*timings(), Timing("force constants", 32, 1.0)], 2.5)
    data = cost.to_json()
    assert data["model"] == "fitted"
    assert FittedCost.from_json(data) == cost
