from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import ARDRegression, BayesianRidge, OrthogonalMatchingPursuit, Ridge
from sklearn.svm import SVR

from farfield.errors import FitError
from farfield.service.surrogate import Triangle, fit
from farfield.service.surrogate.regression.regressor import FREE_RIDGE, regress, span

SIZE = 12
GAMMA = np.append(np.logspace(0, 2, SIZE - 1), np.nan)
FREE = np.arange(SIZE) == SIZE - 1


def _rows(m=200, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(m, SIZE)) * np.logspace(1, 0, SIZE)
    A[:, -1] = 30.0 * (np.arange(m) < m // 10)
    c = rng.normal(size=SIZE) / np.where(FREE, 1.0, GAMMA)
    c[-1] = -3.5
    return A, A @ c + 0.01 * rng.normal(size=m)


def _triangles(A, y, m):
    triangles = {"E": Triangle(SIZE), "F": Triangle(SIZE)}
    triangles["E"].add(A[:m], y[:m])
    triangles["F"].add(A[m:], y[m:])
    return triangles


def test_ridge_is_the_fit_at_that_strength():
    """Free columns are free and the others scaled: Ridge of alpha = lambda^2 minimises the very same loss."""
    A, y = _rows()
    mine = fit(_triangles(A, y, 20), {"E": 5.0, "F": 1.0}, GAMMA, FREE, strength=0.3)
    weight = np.where(np.arange(len(y)) < 20, 5.0, 1.0)
    ridge = Ridge(alpha=0.09, fit_intercept=False)
    theirs = regress(ridge, weight[:, None] * A, weight * y, np.ones(len(y)), GAMMA, FREE)
    assert np.allclose(theirs.mean, mine.mean, rtol=1e-8)
    assert (theirs.strength, theirs.noise) == (None, None)
    assert not hasattr(ridge, "coef_")


@pytest.mark.parametrize(
    "regressor",
    [
        BayesianRidge(fit_intercept=False),
        Ridge(alpha=0.1, fit_intercept=False),
        OrthogonalMatchingPursuit(n_nonzero_coefs=6, fit_intercept=False),
    ],
    ids=lambda r: type(r).__name__,
)
def test_a_triangle_holds_all_that_a_least_squares_regressor_needs(regressor):
    """The fit over K + 1 rows equals that over all rows; counted as they are, else BayesianRidge sees less noise."""
    A, y = _rows()
    found = fit(_triangles(A, y, 20), {"E": 5.0, "F": 1.0}, GAMMA, FREE, regressor=regressor)
    weight = np.where(np.arange(len(y)) < 20, 5.0, 1.0)
    whole = regress(regressor, weight[:, None] * A, weight * y, np.ones(len(y)), GAMMA, FREE)
    assert np.allclose(found.mean, whole.mean, rtol=1e-6)
    if whole.noise is not None:
        assert (found.noise, found.strength) == pytest.approx((whole.noise, whole.strength), rel=1e-6)


def test_the_spread_is_the_regressor_s_own():
    A, y = _rows()
    A[:, -1] = 0.0
    model = BayesianRidge(fit_intercept=False).fit(A[:, :-1] / GAMMA[:-1], y)
    found = fit({"F": _triangles(A, y, 0)["F"]}, {"F": 1.0}, GAMMA, FREE, regressor=BayesianRidge(fit_intercept=False))
    rows = np.eye(SIZE)[:-1] * np.append(GAMMA[:-1], 1.0)
    assert np.allclose(found.covariance(rows), model.sigma_, rtol=1e-5, atol=1e-8 * np.abs(model.sigma_).max())
    assert np.allclose(found.mean[:-1] * GAMMA[:-1], model.coef_, rtol=1e-6)


def test_others_get_the_spread_of_the_evidence_fit():
    A, y = _rows()
    plain = fit(_triangles(A, y, 20), {"E": 1.0, "F": 1.0}, GAMMA, FREE)
    for regressor in (ARDRegression(fit_intercept=False), Ridge(alpha=10.0, fit_intercept=False)):
        found = fit(_triangles(A, y, 20), {"E": 1.0, "F": 1.0}, GAMMA, FREE, regressor=regressor)
        assert np.array_equal(found.factor, plain.factor)
        assert (found.noise, found.strength) == (plain.noise, plain.strength)
        assert not np.array_equal(found.mean, plain.mean)
        F = _triangles(A, y, 20)["F"]
        assert found.residual_rms["F"] == F.residual_rms(found.mean)


def test_span_and_what_it_leaves_open():
    A = np.random.default_rng(0).normal(size=(9, 2)) @ np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    for columns, rank in ((A, 2), (A[:1], 1), (np.zeros((4, 2)), 0), (np.zeros((4, 0)), 0), (A[:, :2], 2)):
        Q, unfixed = span(columns)
        S = columns.shape[1]
        assert (Q.shape, unfixed.shape) == ((len(columns), rank), (S - rank, S))
        assert np.allclose(Q @ (Q.T @ columns), columns, atol=1e-13)
        assert np.allclose(Q.T @ Q, np.eye(rank), atol=1e-13)
        assert np.allclose(unfixed @ unfixed.T, np.eye(S - rank), atol=1e-13)
        assert np.abs(columns @ unfixed.T).max(initial=0.0) < 1e-13


def test_dependent_free_columns_share_what_they_cannot_tell_apart():
    A, y = _rows()
    free = np.arange(SIZE) >= SIZE - 2
    A[:, -2] = A[:, -1]
    mean = regress(Ridge(alpha=1.0, fit_intercept=False), A, y, np.ones(len(y)), GAMMA, free).mean
    assert mean[-1] == pytest.approx(mean[-2], rel=1e-6)
    both = fit(_triangles(A, y, 20), {"E": 1.0, "F": 1.0}, GAMMA, free)
    assert both.mean[-1] == pytest.approx(both.mean[-2], rel=1e-6)
    apart, together = np.zeros(SIZE), np.zeros(SIZE)
    apart[-2:], together[-2:] = [1, -1], [1, 1]
    assert both.quadratic(apart) == pytest.approx(2 * (both.noise / FREE_RIDGE) ** 2, rel=1e-6)
    assert both.quadratic(together) < both.noise**2


@pytest.mark.parametrize(
    ("regressor", "fault"),
    [
        (BayesianRidge(), "fit_intercept=False"),
        (SVR(), "no finite coef_"),
        (Ridge(alpha=-1.0, fit_intercept=False), "could not fit"),
    ],
)
def test_regressors_that_cannot_serve_are_refused(regressor, fault):
    A, y = _rows()
    with pytest.raises(FitError, match=fault) as caught:
        fit(_triangles(A, y, 20), {"E": 1.0, "F": 1.0}, GAMMA, FREE, regressor=regressor)
    assert "\n" not in str(caught.value)
