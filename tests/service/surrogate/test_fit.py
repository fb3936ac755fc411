from __future__ import annotations

import numpy as np
import pytest

from farfield.errors import FitError
from farfield.service.surrogate import Triangle, fit
from farfield.service.surrogate.fit import FREE_RIDGE

SIZE = 15
GAMMA = np.append(np.logspace(0, 3, SIZE - 1), 1.0)
FREE = np.arange(SIZE) == SIZE - 1


def _data(seed=0, noise=0.02, counts=(("E", 10), ("F", 600), ("V", 30)), strength=0.5):
    """Rows of three kinds whose labels follow the model of the fit: coefficients out of the prior, one noise."""
    rng = np.random.default_rng(seed)
    c = rng.normal(size=SIZE) * noise / (strength * GAMMA)
    c[-1] = -3.5
    weights = {"E": 5.0, "F": 1.0, "V": 2.0, "FC": 0.1}
    blocks = {}
    for name, m in counts:
        A = rng.normal(size=(m, SIZE)) * np.logspace(3, 0, SIZE)
        A[:, -1] = rng.integers(-2, 3, size=m) if name == "E" else 0.0
        blocks[name] = (A, A @ c + noise / weights[name] * rng.normal(size=m))
    return c, weights, blocks


def _triangles(blocks):
    triangles = {}
    for name, (A, y) in blocks.items():
        triangles[name] = Triangle(SIZE)
        half = len(y) // 2
        triangles[name].add(A[:half], y[:half])
        triangles[name].add(A[half:], y[half:])
    return triangles


def test_evidence_recovers_noise_and_strength():
    noises, strengths = [], []
    for seed in range(8):
        _, weights, blocks = _data(seed)
        posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
        noises.append(posterior.noise)
        strengths.append(posterior.strength)
    assert np.mean(noises) == pytest.approx(0.02, rel=0.03)
    assert np.exp(np.mean(np.log(strengths))) == pytest.approx(0.5, rel=0.4)


def test_refit_equals_a_dense_bayesian_solve():
    _, weights, blocks = _data(counts=(("E", 10), ("F", 300), ("V", 30), ("FC", 50)))
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    A = np.vstack([weights[k] * a for k, (a, _) in blocks.items()])
    y = np.concatenate([weights[k] * b for k, (_, b) in blocks.items()])
    ridge = np.diag(np.where(FREE, FREE_RIDGE, posterior.strength * GAMMA))
    dense = np.linalg.lstsq(np.vstack([A, ridge]), np.append(y, np.zeros(SIZE)), rcond=None)[0]
    assert np.abs(posterior.mean - dense).max() < 1e-10 * np.abs(dense).max()
    P = (ridge.T @ ridge + A.T @ A) / posterior.noise**2
    assert np.abs(P @ posterior.mean - A.T @ y / posterior.noise**2).max() < 1e-10 * np.abs(P @ np.abs(dense)).max()
    Sigma = np.linalg.inv(P)
    G = np.random.default_rng(5).normal(size=(4, SIZE))
    assert posterior.quadratic(G[0]) == pytest.approx(G[0] @ Sigma @ G[0], rel=1e-8)
    assert posterior.variances(G) == pytest.approx(np.diagonal(G @ Sigma @ G.T), rel=1e-8)
    assert posterior.variance_trace(G) == pytest.approx(np.trace(G.T @ G @ Sigma), rel=1e-8)
    assert np.allclose(posterior.covariance(G), G @ Sigma @ G.T, rtol=1e-8)
    assert np.allclose(posterior.apply(G.T), Sigma @ G.T, rtol=1e-7, atol=1e-12)


def test_evidence_is_the_marginal_likelihood():
    """Differences in log evidence between strengths equal those of the Gaussian density of the labels."""
    _, weights, blocks = _data(counts=(("F", 40),))
    A, y = blocks["F"]
    gamma, A = GAMMA[:-1], A[:, :-1]
    triangle = Triangle(SIZE - 1)
    triangle.add(A, y)
    values, densities = [], []
    for strength in (0.05, 0.5, 5.0):
        posterior = fit({"F": triangle}, weights, gamma, strength=strength, noise_floor=0.0)
        C = posterior.noise**2 * (np.eye(40) + (A / (strength * gamma)) @ (A / (strength * gamma)).T)
        _, logdet = np.linalg.slogdet(2 * np.pi * C)
        values.append(posterior.evidence)
        densities.append(-0.5 * logdet - 0.5 * y @ np.linalg.solve(C, y))
    assert values == pytest.approx(densities, rel=1e-6)  # the dense density is the less exact one


def test_chosen_strength_is_best_on_the_grid():
    _, weights, blocks = _data()
    triangles = _triangles(blocks)
    chosen = fit(triangles, weights, GAMMA, FREE)
    for factor in (0.3, 3.0):
        assert fit(triangles, weights, GAMMA, FREE, strength=chosen.strength * factor).evidence < chosen.evidence


def test_prior_and_noise_are_read_off_energies_and_forces():
    """Many lightly weighted rows near zero must not pass for precise data and switch the prior off."""
    _, weights, blocks = _data(counts=(("E", 2), ("F", 20)))
    alone = fit(_triangles(blocks), weights, GAMMA, FREE)
    rng = np.random.default_rng(9)
    blocks["FC"] = (1e-3 * rng.normal(size=(800, SIZE)) * ~FREE, 1e-3 * rng.normal(size=800))
    joined = fit(_triangles(blocks), weights, GAMMA, FREE)
    assert (joined.noise, joined.strength) == (alone.noise, alone.strength)
    assert not np.array_equal(joined.mean, alone.mean)
    only = fit(_triangles({"FC": blocks["FC"]}), weights, GAMMA, FREE)
    assert only.noise == pytest.approx(1e-4, rel=0.1)


def test_residuals_per_kind_are_unweighted():
    _, weights, blocks = _data()
    posterior = fit(_triangles(blocks), weights | {"V": 0.0}, GAMMA, FREE)
    for name, (A, y) in blocks.items():
        assert posterior.residual_rms[name] == pytest.approx(np.sqrt(np.mean((y - A @ posterior.mean) ** 2)), rel=1e-9)
    assert posterior.weights["V"] == 0.0


def test_scaling_all_weights_scales_the_noise_only():
    _, weights, blocks = _data()
    one = fit(_triangles(blocks), weights, GAMMA, FREE)
    ten = fit(_triangles(blocks), {k: 10 * w for k, w in weights.items()}, GAMMA, FREE)
    assert np.allclose(one.mean, ten.mean, rtol=1e-5)
    assert ten.noise == pytest.approx(10 * one.noise, rel=1e-5)
    g = np.ones(SIZE) * ~FREE
    assert one.quadratic(g) == pytest.approx(ten.quadratic(g), rel=1e-4)


def test_free_columns_cost_nothing_and_missing_energies_do_no_harm():
    c, weights, blocks = _data(noise=1e-6, strength=1e-5)
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    assert posterior.mean[-1] == pytest.approx(c[-1], rel=1e-5)
    only_forces = fit(_triangles({"F": blocks["F"]}), weights, GAMMA, FREE)
    assert only_forces.mean[-1] == 0.0
    assert np.allclose(only_forces.mean[:-1], posterior.mean[:-1], rtol=1e-3, atol=1e-9)
    assert np.isfinite(only_forces.quadratic(np.ones(SIZE)))


def test_fewer_rows_than_columns_are_carried_by_the_prior():
    _, weights, blocks = _data(counts=(("E", 1), ("F", 6)))
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    assert np.isfinite(posterior.mean).all()
    assert 0 < posterior.effective <= 7
    assert posterior.noise > 0


def test_new_rows_shrink_every_variance():
    _, weights, blocks = _data()
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    A = np.random.default_rng(3).normal(size=(5, SIZE))
    T = posterior.factor_with(A)
    P = posterior.factor.T @ posterior.factor + A.T @ A
    assert np.allclose(T.T @ T, P, rtol=1e-10, atol=1e-10 * np.abs(P).max())


def test_draws_follow_the_posterior():
    _, weights, blocks = _data()
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    draws = posterior.draws(4000, seed=1)
    g = np.linspace(1, 2, SIZE)
    assert np.var(draws @ g) == pytest.approx(posterior.quadratic(g), rel=0.1)
    assert np.array_equal(draws, posterior.draws(4000, seed=1))


def test_bad_input_is_refused():
    _, weights, blocks = _data()
    triangles = _triangles(blocks)
    with pytest.raises(FitError, match="buy at least one"):
        fit({}, weights, GAMMA, FREE)
    with pytest.raises(FitError, match="buy at least one"):
        fit(triangles, {}, GAMMA, FREE)
    with pytest.raises(FitError, match="positive"):
        fit(triangles, weights | {"F": -1.0}, GAMMA, FREE)
    with pytest.raises(FitError, match="different bases"):
        fit(triangles, weights, GAMMA[1:], FREE[1:])
    empty = Triangle(SIZE)
    empty.add(np.zeros((30, SIZE)), np.zeros(30))
    with pytest.raises(FitError, match="zero"):
        fit({"F": empty}, weights, GAMMA, FREE)
    single = Triangle(SIZE)
    single.add(FREE.astype(float), [1.0])
    with pytest.raises(FitError, match="forces"):
        fit({"E": single}, weights, GAMMA, FREE)
