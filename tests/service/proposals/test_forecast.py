"""The forecast: an exact power law is found again, noise widens the interval, and the needs follow from the curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from farfield.service.estimates import Estimate
from farfield.service.proposals.forecast import (
    ENERGY,
    GEOMETRY,
    Purchase,
    Rung,
    energy_law,
    error_law,
    forecast,
    geometry_law,
    reliefs,
)

SIZES = [(2, 2, 2), (2, 2, 3), (2, 3, 3), (3, 3, 3), (3, 3, 4), (3, 4, 4), (4, 4, 4), (4, 4, 5), (4, 5, 5), (5, 5, 5)]
NATOMS = [4 * a * b * c for a, b, c in SIZES]


def estimate(size, eta: float, energy: float = 1e-4, **more: object) -> Estimate:
    values = dict.fromkeys(Estimate.__dataclass_fields__, 0.0)
    values |= {"decision": 3, "rung": size, "complete": len(set(size)) == 1, "natoms": 4 * size[0] * size[1] * size[2]}
    values |= {"gates": {"relaxed": True}, "soft": False, "reason": "", "in_sample": None, "core": eta, "fc": 0.0}
    values |= {"eta_geo": eta, "assembled": eta, "eta_energy": energy}
    return Estimate(**{**values, **more})  # type: ignore[arg-type]


def history(count: int, slope: float = 5.0, noise: float = 0.0, seed: int = 0, energy: float = 8.0) -> list[Estimate]:
    rng = np.random.default_rng(seed)
    out = []
    for size, n in zip(SIZES[:count], NATOMS, strict=False):
        x = np.cbrt(n / NATOMS[0])
        eta = 0.1 * x**-slope * np.exp(noise * rng.normal())
        out.append(estimate(size, eta, -0.01 * x**-energy * np.exp(noise * rng.normal())))
    return out


def ladder(start: int, cost: float = 2.0) -> list[Rung]:
    return [Rung(s, n, len(set(s)) == 1, "EFV", cost) for s, n in zip(SIZES[start:], NATOMS[start:], strict=True)]


@pytest.mark.parametrize("slope", [3.0, 5.0, 9.0])
def test_an_exact_power_law_is_found_again(slope: float) -> None:
    law = geometry_law(history(9, slope))
    assert law is not None
    assert law.slope == pytest.approx(slope, rel=0.05)
    truth = 0.1 * np.cbrt(NATOMS[9] / NATOMS[0]) ** -slope
    assert law.at(NATOMS[9]).value == pytest.approx(truth, rel=0.05)
    errors = [abs(geometry_law(history(k, slope)).slope - slope) for k in (2, 4, 6, 9)]  # type: ignore[union-attr]
    assert errors == sorted(errors, reverse=True)  # the prior gives way to the points


def test_one_point_goes_on_with_the_slope_of_the_theory() -> None:
    law = geometry_law(history(1))
    assert law is not None
    assert (law.slope, law.spread) == pytest.approx((GEOMETRY.slope, GEOMETRY.spread), rel=1e-6)
    ahead = law.at(8 * NATOMS[0])  # twice as wide
    assert ahead.value == pytest.approx(0.1 * 2**-GEOMETRY.slope)
    # spread of both points, and the prior's of the slope
    width = np.sqrt(2 * GEOMETRY.spread**2 + (np.log(2) * GEOMETRY.width) ** 2)
    assert np.log(ahead.high / ahead.value) == pytest.approx(width, rel=1e-3)
    assert ahead.high / ahead.value == pytest.approx(ahead.value / ahead.low)


def test_noise_widens_the_interval_and_so_does_the_distance() -> None:
    widths = []
    for noise in (0.0, 0.3, 1.0):
        laws = [geometry_law(history(8, noise=noise, seed=s)) for s in range(20)]
        widths.append(np.mean([np.log(law.at(NATOMS[9]).high / law.at(NATOMS[9]).low) for law in laws if law]))
    assert widths[0] < widths[1] < widths[2]
    law = geometry_law(history(4, noise=0.3))
    assert law is not None
    ratios = [law.at(n).high / law.at(n).low for n in NATOMS[3:]]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize("prior", [GEOMETRY, ENERGY])
def test_the_interval_holds_68_percent_where_the_prior_is_true(prior) -> None:
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(600):
        slope = prior.slope + prior.width * rng.normal()
        y = np.cbrt(NATOMS) ** -slope * np.exp(prior.spread * rng.normal(size=len(NATOMS)))
        k = int(rng.integers(2, 7))
        ahead = error_law(NATOMS[:k], list(y[:k]), prior).at(NATOMS[k + 1])
        inside.append(ahead.low <= y[k + 1] <= ahead.high)
    assert 0.6 <= np.mean(inside) <= 0.78  # 600 draws: +-2 %; the weights cost some width


def test_units_cancel() -> None:
    values = [e.eta_geo for e in history(5, noise=0.4)]
    one, other = (error_law(NATOMS[:5], [s * v for v in values], GEOMETRY) for s in (1.0, 1e3))
    assert other.at(500).value == pytest.approx(1e3 * one.at(500).value)
    assert (other.slope, other.spread) == pytest.approx((one.slope, one.spread))
    signs = [v * (-1) ** k for k, v in enumerate(values)]
    assert error_law(NATOMS[:5], signs, GEOMETRY) == one


def test_what_the_refit_learnt_moves_the_level() -> None:
    known = history(4)
    plain = geometry_law(known)
    learnt = geometry_law([*known[:-1], replace(known[-1], in_sample=0.1 * known[-1].eta_geo)])
    stuck = geometry_law([*known[:-1], replace(known[-1], in_sample=known[-1].eta_geo)])
    assert plain is not None and learnt is not None and stuck is not None  # noqa: PT018
    assert learnt.at(500).value < plain.at(500).value < stuck.at(500).value
    same, larger = (geometry_law([*known[:-1], replace(known[-1], in_sample=1.0)], size) for size in (0, 45))
    assert same is not None and larger is not None  # noqa: PT018
    assert larger.at(500).value == pytest.approx(np.exp(-GEOMETRY.growth) * plain.at(500).value)
    assert same.at(500).value > stuck.at(500).value  # the same basis: what its refit left counts


def test_closed_gates_are_left_out() -> None:
    known = history(5)
    wild = replace(known[3], eta_geo=50.0, gates={"relaxed": False})
    assert geometry_law([*known[:3], wild, known[4]]) == geometry_law([*known[:3], known[4]])
    assert geometry_law([*known[:3], replace(known[3], eta_geo=float("nan")), known[4]]) == geometry_law(
        [*known[:3], known[4]]
    )
    assert geometry_law([wild]) is None
    assert energy_law([]) is None
    assert forecast([wild], ladder(4), 1.0, 1.0) is None
    with pytest.raises(ValueError, match="at least one"):
        error_law([], [], GEOMETRY)


def test_zero_estimates_are_forecast_to_stay_nothing() -> None:
    law = geometry_law([estimate(s, 0.0) for s in SIZES[:2]])
    assert law is not None
    assert law.at(500).high < 1e-7


def test_the_curve_adds_up_and_two_rungs_in_a_row_end_it() -> None:
    known = history(4, energy=20.0)
    tol = 1.5 * known[-1].eta_geo * 0.8  # neither the last rung nor the next
    f = forecast(known, ladder(4), tol, 1.0, spent=7.0)
    assert f is not None
    assert [s.spent for s in f.steps] == [9.0, 11.0, 13.0, 15.0, 17.0, 19.0]
    values = [s.geometry.value for s in f.steps]
    assert values == sorted(values, reverse=True)
    first = next(k for k in range(1, 6) if f.steps[k - 1].within and f.steps[k].within)
    assert f.need is not None
    assert (f.need.calls, f.need.rung, f.need.cost) == (first + 1, SIZES[4 + first], 2.0 * (first + 1))
    assert f.best is not None
    assert f.best.calls <= f.need.calls
    assert f.worst is None or f.worst.calls >= f.need.calls
    # theta counts: (3, 3, 4) is incomplete
    assert f.steps[0].within == (2.5 * values[0] <= tol)


def test_a_last_rung_within_tolerance_counts_as_the_first_of_the_two() -> None:
    known = history(4)
    assert known[-1].within(1.0, 1.0)
    f = forecast(known, ladder(4), 1.0, 1.0)
    assert f is not None
    assert f.need is not None
    assert (f.need.calls, f.need.rung) == (1, SIZES[4])
    closed = [*known[:-1], replace(known[-1], gates={"solver": False})]
    f = forecast(closed, ladder(4), 1.0, 1.0)
    assert f is not None
    assert f.need is not None
    assert f.need.calls == 2


def test_the_energy_alone_may_keep_the_tolerance_away_and_the_target_may_come_first() -> None:
    known = history(4)
    f = forecast(known, ladder(4), 1.0, 1e-12)
    assert f is not None
    assert (f.need, f.best, f.worst) == (None, None, None)
    assert not any(s.within for s in f.steps)
    assert f.to_json()["need"] is None
    nothing = forecast(known, [], 1.0, 1.0)
    assert nothing is not None
    assert (nothing.steps, nothing.need) == ((), None)


def test_reliefs_are_the_parts_of_the_last_estimate() -> None:
    e = estimate((3, 3, 3), 0.0, core=0.03, fc=0.04, assembled=0.05, v=0.002, fold=0.03, eta_geo=0.082)
    bought = [Purchase("v", "12 strained cells", 3.0), Purchase("fc", "FC", 0.0), Purchase("fold", "FC on 4x4x4", 9.0)]
    found = reliefs(e, bought)
    assert [r.purchase.term for r in found] == ["fold", "fc", "v"]
    assert [r.removes for r in found] == pytest.approx([0.03, 0.02, 0.002])
    assert [r.leaves for r in found] == pytest.approx([0.052, 0.062, 0.08])
    quiet = replace(e, assembled=0.02)  # core and tail work against each other: no FC row can be held to help
    assert reliefs(quiet, bought[1:2])[0].removes == 0.0
