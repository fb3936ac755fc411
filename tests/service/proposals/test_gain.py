"""Gain per cost against dense linear algebra on small problems, and its laws."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from harmonic import HOST, Harmonic, constants

from farfield.errors import FitError
from farfield.service.cells import Defect, DefectCell
from farfield.service.estimates import Preconditioner
from farfield.service.estimates.parametric import geometry_spread
from farfield.service.proposals import PowerCost
from farfield.service.proposals.gain import Candidate, Goals, batch, goals, rank
from farfield.service.surrogate import Posterior
from farfield.service.surrogate.regression.triangle import triangular

K = 10
WEIGHTS = {"E": 5.0, "F": 1.0, "FC": 0.7}
COST = PowerCost(0.0)


def problem(seed: int, scales: float = 0.0) -> tuple[Posterior, Goals, list[Candidate], np.ndarray]:
    """A posterior of K coefficients of very unlike scales, goals Q^{1/2} (4, K), six candidates."""
    rng = np.random.default_rng(seed)
    S = 10 ** rng.uniform(-scales, scales, size=K)
    T = triangular(np.asfortranarray(rng.normal(size=(2 * K, K)) * S))
    posterior = Posterior(np.zeros(K), T, 0.3, 1.0, 0.0, 0.0, {}, WEIGHTS)
    root = rng.normal(size=(4, K)) * S
    candidates = [
        Candidate(
            f"cell {k}",
            {"E": rng.normal(size=(1, K)) * S, "F": rng.normal(size=(int(rng.integers(1, 15)), K)) * S},
            ((8, "verification"),),
        )
        for k in range(6)
    ]
    return posterior, Goals(posterior.whiten(root), 0.0, 0.0), candidates, root


def covariance(posterior: Posterior) -> np.ndarray:
    return posterior.noise**2 * np.linalg.inv(posterior.factor.T @ posterior.factor)


def updated(Sigma: np.ndarray, candidate: Candidate, noise: float) -> np.ndarray:
    """The formula of the theory, as it stands."""
    X = np.vstack([WEIGHTS[kind] * rows / noise for kind, rows in candidate.rows.items()])
    return Sigma - Sigma @ X.T @ np.linalg.inv(np.eye(len(X)) + X @ Sigma @ X.T) @ X @ Sigma


def dense_gain(Sigma: np.ndarray, candidate: Candidate, root: np.ndarray, noise: float) -> float:
    after = updated(Sigma, candidate, noise)
    return float(np.log(np.trace(root @ Sigma @ root.T) / np.trace(root @ after @ root.T)))


@pytest.mark.parametrize("seed", range(5))
def test_gains_are_those_of_dense_algebra(seed: int) -> None:
    posterior, aims, candidates, root = problem(seed)
    Sigma = covariance(posterior)
    found = rank(candidates, posterior, aims, COST)
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    for s in found:
        assert s.gain == pytest.approx(dense_gain(Sigma, s.candidate, root, posterior.noise), rel=1e-10)
    # as the rows added to the fit itself would say
    rows = np.vstack([WEIGHTS[k] * v for k, v in candidates[0].rows.items()])
    new = Posterior(posterior.mean, posterior.factor_with(rows), posterior.noise, 1.0, 0.0, 0.0)
    expected = np.log((aims.factor**2).sum() / new.variance_trace(root))
    first = next(s for s in found if s.candidate is candidates[0])
    assert first.gain == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_scale_of_a_coefficient_does_not_matter(seed: int) -> None:
    posterior, aims, candidates, root = problem(seed)
    rng = np.random.default_rng(seed + 100)
    # 10^8 from one coefficient to another, and a mixture of them
    A = np.diag(10.0 ** rng.uniform(-4, 4, size=K)) @ np.linalg.qr(rng.normal(size=(K, K)))[0]
    other = Posterior(
        posterior.mean, triangular(np.asfortranarray(posterior.factor @ A)), posterior.noise, 1.0, 0.0, 0.0, {}, WEIGHTS
    )
    moved = [Candidate(c.name, {k: v @ A for k, v in c.rows.items()}, c.cells) for c in candidates]
    first = rank(candidates, posterior, aims, COST)
    again = rank(moved, other, Goals(other.whiten(root @ A), 0.0, 0.0), COST)
    assert [s.candidate.name for s in again] == [s.candidate.name for s in first]
    assert [s.gain for s in again] == pytest.approx([s.gain for s in first], rel=1e-6)


def test_rows_with_the_same_squares_are_the_same() -> None:
    posterior, aims, candidates, _ = problem(3)
    rng = np.random.default_rng(9)
    c = candidates[0]
    F = np.vstack([c.rows["F"], rng.normal(size=(30, K))])
    whole = Candidate("many", {"F": F}, c.cells)
    mixed = Candidate("mixed", {"F": np.linalg.qr(rng.normal(size=(len(F), len(F))))[0] @ F}, c.cells)
    small = Candidate("triangle", {"F": triangular(np.asfortranarray(F))}, c.cells)
    gains = [s.gain for s in rank([whole, mixed, small], posterior, aims, COST)]
    assert gains == pytest.approx([gains[0]] * 3, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_more_data_never_raises_a_variance(seed: int) -> None:
    posterior, aims, candidates, root = problem(seed)
    found = {s.candidate.name: s.gain for s in rank(candidates, posterior, aims, COST)}
    assert min(found.values()) > 0
    for a, b in combinations(candidates, 2):
        both = Candidate("both", {k: np.vstack([a.rows[k], b.rows[k]]) for k in a.rows}, a.cells)
        (joint,) = rank([both], posterior, aims, COST)
        assert joint.gain >= max(found[a.name], found[b.name])
        chosen = batch([a, b], posterior, aims, COST, 2)
        assert sum(s.gain for s in chosen) == pytest.approx(joint.gain, rel=1e-10)
    for row in root:  # each goal by itself, too
        one = Goals(posterior.whiten(row), 0.0, 0.0)
        assert min(s.gain for s in rank(candidates, posterior, one, COST)) >= 0


def test_nothing_is_learnt_from_no_rows_a_kind_that_is_not_fitted_or_for_no_goal() -> None:
    posterior, aims, candidates, _ = problem(1)
    empty = Candidate("empty", {"F": np.zeros((0, K))}, ((8, ""),))
    virials = Candidate("V", {"V": np.ones((6, K))}, ((8, "strain"),))
    zero = Candidate("zero", {"F": np.zeros((3, K))}, ((8, ""),))
    assert [s.gain for s in rank([empty, virials, zero], posterior, aims, COST)] == [0.0, 0.0, 0.0]
    (fitted,) = rank([virials], posterior, aims, COST, weights={**WEIGHTS, "V": 1.0})
    assert fitted.gain > 0
    nothing = Goals(np.zeros_like(aims.factor), 0.0, 0.0)
    assert rank(candidates, posterior, nothing, COST)[0].gain == 0.0


def test_a_tiny_gain_is_not_lost_and_a_huge_one_not_cut() -> None:
    posterior, aims, candidates, root = problem(2)
    direction = {"F": candidates[0].rows["F"][:1]}
    for factor in (1e-9, 1e7):
        c = Candidate("scaled", {"F": factor * direction["F"]}, ((8, ""),))
        (s,) = rank([c], posterior, aims, COST)
        if factor < 1:  # linear in the square of a weak row
            X = posterior.whiten(c.rows["F"]) / posterior.noise
            linear = float(((X.T @ aims.factor) ** 2).sum() / (aims.factor**2).sum())
            assert s.gain == pytest.approx(linear, rel=1e-6)
    all_known = Candidate("all", {"F": 1e7 * np.eye(K)}, ((8, ""),))
    (s,) = rank([all_known], posterior, aims, COST)
    exact = np.linalg.inv(np.linalg.inv(covariance(posterior)) + 1e14 * np.eye(K) / posterior.noise**2)
    after = float(np.trace(root @ exact @ root.T))
    assert s.gain == pytest.approx(np.log((aims.factor**2).sum() / after), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_batch_is_that_of_dense_algebra(seed: int) -> None:
    posterior, aims, candidates, root = problem(seed)
    chosen = batch(candidates, posterior, aims, COST, 3)
    Sigma, left = covariance(posterior), list(candidates)
    for s in chosen:
        gains = [dense_gain(Sigma, c, root, posterior.noise) for c in left]
        best = left[int(np.argmax(gains))]
        assert s.candidate is best
        assert s.gain == pytest.approx(max(gains), rel=1e-8)
        Sigma = updated(Sigma, best, posterior.noise)
        left.remove(best)
    assert len(batch(candidates, posterior, aims, COST, 50)) == 6


def test_three_of_six_that_do_not_overlap_are_the_best_three() -> None:
    """Where each candidate measures coefficients of its own, greedy is exact: all 20 triples say so."""
    rng = np.random.default_rng(4)
    posterior = Posterior(np.zeros(12), np.eye(12), 1.0, 1.0, 0.0, 0.0, {}, {"F": 1.0})
    root = np.diag(rng.uniform(0.2, 3.0, size=12))
    aims = Goals(posterior.whiten(root), 0.0, 0.0)
    candidates = []
    for k in range(6):
        rows = np.zeros((2, 12))
        rows[:, 2 * k : 2 * k + 2] = rng.normal(size=(2, 2)) * rng.uniform(0.3, 3)
        candidates.append(Candidate(str(k), {"F": rows}, ((8, ""),)))

    def joint(triple: tuple[Candidate, ...]) -> float:
        (s,) = rank(
            [Candidate("joint", {"F": np.vstack([c.rows["F"] for c in triple])}, ((8, ""),))], posterior, aims, COST
        )
        return s.gain

    best = max(combinations(candidates, 3), key=joint)
    chosen = batch(candidates, posterior, aims, COST, 3)
    assert {s.candidate.name for s in chosen} == {c.name for c in best}
    assert sum(s.gain for s in chosen) == pytest.approx(joint(best), rel=1e-10)


def test_what_is_in_flight_counts_as_known() -> None:
    posterior, aims, candidates, root = problem(5)
    plain = {s.candidate.name: s.gain for s in rank(candidates, posterior, aims, COST)}
    flying = candidates[2]
    found = {s.candidate.name: s.gain for s in rank(candidates, posterior, aims, COST, known=[flying])}
    Sigma = updated(covariance(posterior), flying, posterior.noise)
    for c in candidates:
        assert found[c.name] == pytest.approx(dense_gain(Sigma, c, root, posterior.noise), rel=1e-9)
    assert found[flying.name] < plain[flying.name]  # buying it twice
    first, second = batch(candidates, posterior, aims, COST, 2)
    rest = [c for c in candidates if c is not first.candidate]
    again = rank(rest, posterior, aims, COST, known=[first.candidate])[0]
    assert (again.candidate, again.gain) == (second.candidate, pytest.approx(second.gain))


def test_cost_divides_and_tolerances_weigh() -> None:
    posterior, _, candidates, root = problem(6)
    c = candidates[0]
    dear = Candidate("dear", c.rows, ((64, "verification"), (64, "verification")))
    cost = PowerCost(1.0)
    first, second = rank(
        [dear, Candidate("cheap", c.rows, c.cells)], posterior, Goals(posterior.whiten(root), 0, 0), cost
    )
    assert (first.candidate.name, first.cost, second.cost) == ("cheap", 1.0, 16.0)
    assert first.gain == second.gain
    assert second.score == pytest.approx(first.score / 16)
    with pytest.raises(ValueError, match="costs 0"):
        rank([Candidate("free", c.rows)], posterior, Goals(posterior.whiten(root), 0, 0), cost)
    with pytest.raises(FitError, match="columns"):
        rank(
            [Candidate("foreign", {"F": np.ones((2, K + 1))}, c.cells)],
            posterior,
            Goals(posterior.whiten(root), 0, 0),
            cost,
        )


def test_goals_are_the_parametric_columns_in_units_of_the_tolerances(morse) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(7)
    target = DefectCell(HOST, Defect.named(HOST, "vacancy"), (3, 3, 3))
    posterior, _, candidates, _ = problem(7)
    green = Preconditioner(target, Harmonic(constants(morse)).operator((3, 3, 3)))
    forces, gradient = rng.normal(size=(3 * target.natoms, K)), rng.normal(size=K)
    aims = goals(posterior, forces, gradient, target, green, 0.02, 0.005)
    spread = geometry_spread(posterior.whiten(forces), target, green)
    assert aims.geometry == pytest.approx((spread / 0.02) ** 2, rel=1e-10)
    assert aims.energy == pytest.approx(posterior.quadratic(gradient) / 0.005**2, rel=1e-12)
    assert (aims.factor**2).sum() == pytest.approx(aims.geometry + aims.energy, rel=1e-12)
    # against J itself
    i, j = target.bonds
    moved = [green(column.reshape(-1, 3)) for column in forces.T]
    J = np.stack([(u[j] - u[i]).ravel() for u in moved], axis=1)
    root = np.vstack([J / 0.02, gradient / 0.005])
    dense = [dense_gain(covariance(posterior), c, root, posterior.noise) for c in candidates]
    found = {s.candidate.name: s.gain for s in rank(candidates, posterior, aims, COST)}
    assert [found[c.name] for c in candidates] == pytest.approx(dense, rel=1e-8)
    # a sketch has fewer solves than there are coefficients, and the same mean
    traces = [
        goals(posterior, forces, gradient, target, green, 0.02, 0.005, sketch=8, seed=s).geometry for s in range(40)
    ]
    assert np.mean(traces) == pytest.approx(aims.geometry, rel=4 * np.std(traces) / aims.geometry / np.sqrt(40))
    assert np.std(traces) / aims.geometry < np.sqrt(2 / 8)
