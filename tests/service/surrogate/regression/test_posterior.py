from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from farfield.errors import FitError
from farfield.service.surrogate import Basis, Triangle, fit, labelled_rows

WEIGHTS = {"E": 5.0, "F": 1.0, "V": 20.0}


def _rows(basis, cells):
    found = []
    for seed in range(cells):
        atoms = bulk("Cu", cubic=True, a=3.6) * (2, 2, 2)
        del atoms[0]
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        found.append(atoms)
    return labelled_rows(basis, found, weights=WEIGHTS)


def _fit(basis, rows, order=None, pieces=1, **more):
    """The fit of `rows`, added to the triangles in `order` and so many `pieces`."""
    order = np.arange(len(rows.y)) if order is None else order
    triangles = {kind: Triangle(basis.size) for kind in WEIGHTS}
    for kind, weight in WEIGHTS.items():
        for part in np.array_split(order[rows.kinds[order] == kind], pieces):
            triangles[kind].add(rows.X[part] / weight, rows.y[part] / weight)
    return fit(triangles, WEIGHTS, basis.prior, basis.one_body, **more)


def _precision(basis, rows, posterior):
    ridge = np.where(basis.one_body, 0.0, posterior.strength * basis.prior)
    return rows.X.T @ rows.X + np.diag(ridge**2)


@pytest.mark.parametrize("level", [0, 2, 4])
def test_mean_solves_the_normal_equations_of_all_rows(level):
    """P c = A^T W^2 y to 1e-10, in columns scaled by the prior, though P was never formed."""
    basis = Basis.default(("Cu",), 2.55, level)
    rows = _rows(basis, 3)
    posterior = _fit(basis, rows)
    right = rows.X.T @ rows.y / basis.prior
    left = _precision(basis, rows, posterior) @ posterior.mean / basis.prior
    assert np.abs(left - right).max() < 1e-10 * np.abs(right).max()
    P = posterior.factor.T @ posterior.factor / np.outer(basis.prior, basis.prior)
    assert np.allclose(P, _precision(basis, rows, posterior) / np.outer(basis.prior, basis.prior), rtol=1e-10)


@pytest.mark.parametrize("level", [0, 2, 4])
def test_the_same_rows_in_any_order_give_the_same_fit(level):
    """To the rounding that the rows' condition lets through: 1e-12 of predictions, 1e-7 of the spread of each mean."""
    basis = Basis.default(("Cu",), 2.55, level)
    rows = _rows(basis, 3)
    first = _fit(basis, rows)
    spread = np.sqrt(first.variances(np.eye(basis.size)))
    for seed, pieces in ((0, 1), (1, 5), (2, 40)):
        again = _fit(basis, rows, np.random.default_rng(seed).permutation(len(rows.y)), pieces)
        assert np.abs(rows.X @ (again.mean - first.mean)).max() < 1e-12 * np.abs(rows.y).max()
        assert (np.abs(again.mean - first.mean) < 1e-7 * spread).all()
        assert np.abs((again.mean - first.mean) * basis.prior).max() < 1e-9 * np.abs(first.mean * basis.prior).max()
        assert (again.noise, again.strength) == pytest.approx((first.noise, first.strength), rel=1e-8)


def test_products_are_those_of_the_dense_covariance():
    basis = Basis.default(("Cu",), 2.55, 1)
    rows = _rows(basis, 3)
    posterior = _fit(basis, rows, strength=1e-2)
    D = np.where(basis.one_body, 1.0, 1e-2 * basis.prior)
    scaled = _precision(basis, rows, posterior) / np.outer(D, D)
    Sigma = posterior.noise**2 * np.linalg.inv(scaled) / np.outer(D, D)
    G = rows.X[:: len(rows.y) // 7] + 0.1 / basis.prior
    dense = G @ Sigma @ G.T
    assert np.allclose(posterior.covariance(G), dense, rtol=1e-7, atol=1e-9 * dense.max())
    assert posterior.variances(G) == pytest.approx(np.diagonal(dense), rel=1e-7)
    assert posterior.quadratic(G[0]) == pytest.approx(dense[0, 0], rel=1e-7)
    assert posterior.variance_trace(G) == pytest.approx(np.trace(dense), rel=1e-7)
    applied = (posterior.apply(G.T) - Sigma @ G.T) * basis.prior[:, None]
    assert np.abs(applied).max() < 1e-6 * np.abs(Sigma @ G.T * basis.prior[:, None]).max()


def test_a_new_observation_is_known_as_the_rank_one_update_says():
    """factor_with against the fit of all rows, and the variance it leaves: v / (1 + v / s^2)."""
    basis = Basis.default(("Cu",), 2.55, 1)
    rows = _rows(basis, 3)
    part = rows._replace(X=rows.X[:-6], y=rows.y[:-6], kinds=rows.kinds[:-6])
    before = _fit(basis, part, strength=1e-3)
    both = _fit(basis, rows, strength=1e-3)
    assert np.allclose(before.factor_with(rows.X[-6:]) / basis.prior, both.factor / basis.prior, rtol=1e-7, atol=1e-7)
    x = rows.X[-1]
    grown = before.factor_with(x)
    v = before.quadratic(x)
    after = before.noise**2 * np.sum(np.linalg.solve((grown / basis.prior).T, x / basis.prior) ** 2)
    assert after == pytest.approx(v / (1 + v / before.noise**2), rel=1e-7)


def test_rows_of_another_basis_are_refused():
    basis = Basis.default(("Cu",), 2.55, 0)
    posterior = _fit(basis, _rows(basis, 1))
    for product in (posterior.whiten, posterior.variances, posterior.quadratic, posterior.covariance):
        with pytest.raises(FitError, match="columns"):
            product(np.ones(basis.size + 1))
