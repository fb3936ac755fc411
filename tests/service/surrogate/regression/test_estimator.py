from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from sklearn.base import clone
from sklearn.linear_model import BayesianRidge
from sklearn.utils.estimator_checks import check_estimator

from farfield.errors import FitError
from farfield.service.surrogate import Basis, EvidenceRidge, Surrogate, Triangle, fit, labelled_rows

BASIS = Basis.default(("Cu",), 2.55, 1)


def _cell(seed):
    """A vacancy in a small cell of copper, rattled, with the labels of effective-medium theory."""
    atoms = bulk("Cu", cubic=True, a=3.6) * (2, 2, 2)
    del atoms[0]
    atoms.rattle(0.05, seed=seed)
    atoms.calc = EMT()
    atoms.get_forces()
    atoms.get_stress()
    return atoms


@pytest.fixture(scope="module")
def training():
    return [_cell(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def rows(training):
    return labelled_rows(BASIS, training)


@pytest.fixture(scope="module")
def unseen():
    return [_cell(seed) for seed in range(50, 54)]


def force_error(coefficients, cells):
    """Root mean square over `cells`, eV/Å."""
    model = Surrogate(BASIS, coefficients)
    return float(np.sqrt(np.mean([(model.evaluate(a)[1] - a.get_forces()) ** 2 for a in cells])))


@pytest.mark.parametrize("regressor", [None, BayesianRidge(fit_intercept=False)], ids=["evidence", "BayesianRidge"])
def test_it_is_a_scikit_learn_regressor(regressor):
    """Every check of scikit-learn itself; none is expected to fail."""
    said = check_estimator(EvidenceRidge(regressor=regressor), on_fail=None, on_skip=None)
    assert [(s["check_name"], s["exception"]) for s in said if s["status"] not in ("passed", "skipped")] == []
    assert sum(s["status"] == "passed" for s in said) > 40


def test_it_is_the_fit_of_the_campaign(rows):
    triangles = {kind: Triangle(BASIS.size) for kind in "EF"}
    for kind, weight in (("E", 5.0), ("F", 1.0)):
        mine = rows.kinds == kind
        triangles[kind].add(rows.X[mine] / weight, rows.y[mine] / weight)
    theirs = fit(triangles, {"E": 5.0, "F": 1.0}, BASIS.prior, BASIS.one_body)
    model = EvidenceRidge(BASIS.prior, BASIS.one_body).fit(rows.X, rows.y)
    scale = np.abs(theirs.mean * BASIS.prior).max()
    assert np.abs((model.coef_ - theirs.mean) * BASIS.prior).max() < 1e-8 * scale
    assert np.abs(model.predict(rows.X) - rows.X @ theirs.mean).max() < 1e-12 * np.abs(rows.y).max()
    assert (model.noise_, model.strength_) == pytest.approx((theirs.noise, theirs.strength), rel=1e-8)
    assert model.posterior_.effective == pytest.approx(theirs.effective, rel=1e-8)


def test_bayesian_ridge_on_the_same_rows_is_as_good(rows, unseen):
    """scikit-learn's regressor sees the rows over gamma; its one-body column is as good as free at a scale of 1e3."""
    ours = EvidenceRidge(BASIS.prior, BASIS.one_body).fit(rows.X, rows.y)
    gamma = np.where(BASIS.one_body, 1e-3, BASIS.prior)
    theirs = BayesianRidge(fit_intercept=False).fit(rows.X / gamma, rows.y)
    ours_error, theirs_error = force_error(ours.coef_, unseen), force_error(theirs.coef_ / gamma, unseen)
    assert ours_error < 1e-3  # forces are 0.5 eV/Å
    assert theirs_error == pytest.approx(ours_error, rel=0.05)
    swapped = EvidenceRidge(BASIS.prior, BASIS.one_body, regressor=BayesianRidge(fit_intercept=False))
    swapped.fit(rows.X, rows.y)
    assert force_error(swapped.coef_, unseen) == pytest.approx(ours_error, rel=0.05)
    assert swapped.noise_ == pytest.approx(ours.noise_, rel=0.1)
    assert not np.array_equal(swapped.coef_, ours.coef_)


def test_predicted_spread_is_that_of_the_posterior(rows):
    """Against the dense covariance, noise included as in BayesianRidge."""
    model = EvidenceRidge(BASIS.prior, BASIS.one_body, strength=1e-2).fit(rows.X, rows.y)
    some = rows.X[10:60]
    mean, spread = model.predict(some, return_std=True)
    scale = np.where(BASIS.one_body, 1.0, 1e-2 * BASIS.prior)
    P = (rows.X / scale).T @ (rows.X / scale) + np.diag(~BASIS.one_body)
    dense = np.sum((some / scale) * np.linalg.solve(P, (some / scale).T).T, axis=1)
    assert spread == pytest.approx(model.noise_ * np.sqrt(1 + dense), rel=1e-8)
    assert np.array_equal(mean, model.predict(some))


def test_weights_repeat_rows(rows):
    count = np.random.default_rng(0).integers(0, 3, len(rows.y))
    weighted = EvidenceRidge(BASIS.prior, BASIS.one_body).fit(rows.X, rows.y, count)
    repeated = EvidenceRidge(BASIS.prior, BASIS.one_body).fit(np.repeat(rows.X, count, 0), np.repeat(rows.y, count))
    assert np.allclose(weighted.predict(rows.X), repeated.predict(rows.X), rtol=0, atol=1e-10)
    assert (weighted.noise_, weighted.strength_) == pytest.approx((repeated.noise_, repeated.strength_), rel=1e-8)


def test_rows_that_do_not_judge_leave_noise_and_strength(training, rows):
    more = labelled_rows(BASIS, training, weights={"E": 5.0, "F": 1.0, "V": 30.0})
    alone = EvidenceRidge(BASIS.prior, BASIS.one_body).fit(rows.X, rows.y)
    joined = EvidenceRidge(BASIS.prior, BASIS.one_body).fit(more.X, more.y, judges=more.judges)
    assert (joined.noise_, joined.strength_) == pytest.approx((alone.noise_, alone.strength_), rel=1e-8)
    virial = more.kinds == "V"
    assert np.linalg.norm((more.y - joined.predict(more.X))[virial]) < np.linalg.norm(
        (more.y - alone.predict(more.X))[virial]
    )
    lone = EvidenceRidge(BASIS.prior, BASIS.one_body).fit(more.X[virial], more.y[virial], judges=more.judges[virial])
    assert lone.noise_ > 0


def test_parameters_reach_through_to_the_regressor():
    model = EvidenceRidge(BASIS.prior, regressor=BayesianRidge(fit_intercept=False, max_iter=7))
    assert model.get_params()["regressor__max_iter"] == 7
    other = clone(model).set_params(regressor__max_iter=9, strength=0.1)
    assert (other.regressor.max_iter, model.regressor.max_iter, other.strength) == (9, 7, 0.1)


def test_bad_input_is_refused(rows):
    model = EvidenceRidge(BASIS.prior, BASIS.one_body)
    broken = rows.y.copy()
    broken[3] = np.nan
    with pytest.raises(FitError, match="NaN"):
        model.fit(rows.X, broken)
    with pytest.raises(FitError, match="infinity"):
        model.fit(np.full_like(rows.X, np.inf), rows.y)
    with pytest.raises(FitError, match="columns"):
        model.fit(rows.X[:, 1:], rows.y)
    with pytest.raises(FitError, match="mark each"):
        model.fit(rows.X, rows.y, judges=[True])
    for weights, fault in ((-1.0, "negative"), (np.nan, "finite"), (0.0, "zero"), ([1.0, 2.0], "each of the")):
        with pytest.raises(FitError, match=fault):
            model.fit(rows.X, rows.y, weights)
    with pytest.raises(FitError, match="one-body"):
        model.fit(rows.X[rows.kinds == "E"][:1], rows.y[rows.kinds == "E"][:1])
    assert all("\n" not in str(_fault(model, X)) for X in (rows.X[0], rows.X * np.nan))


def _fault(model, X):
    with pytest.raises(FitError) as caught:
        model.fit(X, np.zeros(len(X)))
    return caught.value
