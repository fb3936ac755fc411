"""The fit as a scikit-learn estimator, and any other linear regressor in its place.

    rows = labelled_rows(basis, cells)
    model = EvidenceRidge(basis.prior, basis.one_body).fit(rows.X, rows.y, judges=rows.judges)
    surrogate = Surrogate(basis, model.coef_)

Rows come weighted (w A, w y), so that one noise holds for all of them and `sample_weight` keeps scikit-learn's meaning,
how often a row counts. `EvidenceRidge(..., regressor=BayesianRidge(fit_intercept=False))` fits the same rows otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from farfield.errors import FitError
from farfield.service.surrogate.regression.fit import posterior, scales
from farfield.service.surrogate.regression.posterior import Posterior
from farfield.service.surrogate.regression.regressor import Regressor, regress
from farfield.service.surrogate.regression.triangle import Triangle

__all__ = ["EvidenceRidge"]

Array = NDArray[np.float64]


class EvidenceRidge(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Generalised ridge regression whose strength and noise maximise the evidence (`fit.fit`), no intercept.

    Minimises sum_i (y_i - x_i c)^2 + lambda^2 sum_v gamma_v^2 c_v^2 for rows x_i (K,).

    Parameters
    ----------
    prior: (K,) gamma, `Basis.prior`; None: ones.
    free: (K,) mask of columns outside the prior, `Basis.one_body`; None: none.
    strength: lambda; None: by evidence.
    noise_floor: lower bound of the noise s, in units of a row.
    regressor: gives the coefficients instead: a linear regressor without intercept, which sees the rows over gamma,
        free columns projected out. Its `lambda_` and `alpha_` are taken over where it has both.

    Attributes
    ----------
    coef_: (K,). intercept_: 0. noise_: s. strength_: lambda. posterior_: `Posterior`. n_features_in_: K.
    """

    def __init__(
        self,
        prior: ArrayLike | None = None,
        free: ArrayLike | None = None,
        *,
        strength: float | None = None,
        noise_floor: float = 1e-6,
        regressor: Regressor | None = None,
    ) -> None:
        self.prior = prior
        self.free = free
        self.strength = strength
        self.noise_floor = noise_floor
        self.regressor = regressor

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, judges: ArrayLike | None = None
    ) -> EvidenceRidge:
        """Fits rows X (m, K) with labels y (m,). `sample_weight` (m,) or a number: how often each row counts.

        `judges` (m,) masks the rows from which strength and noise are read; the others only enter the fit once these
        are chosen. None: all. Raises FitError for rows from which nothing can be fitted and bad parameters.
        """
        X, y = _validated(self, X, y, y_numeric=True, dtype=np.float64)
        m, K = X.shape
        gamma, free = scales(np.ones(K) if self.prior is None else self.prior, self.free)
        if gamma.size != K:
            raise FitError(f"X has {K} columns and the prior {gamma.size}; take the prior of the basis of the rows")
        repeats = _repeats(sample_weight, m)
        mask = np.ones(m, bool) if judges is None else np.asarray(judges, bool)
        if mask.shape != (m,):
            raise FitError(f"judges {mask.shape} must mark each of the {m} rows; leave it out to have all judge")
        counted = repeats > 0
        X, y, repeats, mask = X[counted], y[counted], repeats[counted], mask[counted]
        if not mask.any():
            mask = ~mask
        root = np.sqrt(repeats)
        factors = []
        for part in (mask, ~mask):
            triangle = Triangle(K)
            if part.any():
                triangle.add(root[part, None] * X[part], root[part] * y[part])
            factors.append(triangle.factor)
        chosen = None if self.regressor is None else regress(self.regressor, X, y, repeats, gamma, free)
        found = posterior(
            factors[0],
            factors[1:] if len(factors[1]) else [],
            float(repeats[mask].sum()),
            gamma,
            free,
            self.strength,
            self.noise_floor,
            chosen,
        )
        residual = float(np.sqrt(np.average((y - X @ found.mean) ** 2, weights=repeats)))
        self.posterior_: Posterior = replace(found, residual_rms={"all": residual})
        self.coef_: Array = found.mean
        self.intercept_ = 0.0
        self.noise_ = found.noise
        self.strength_ = found.strength
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """X c (m,), and with `return_std` the standard deviation of a label of a row of X, noise included (m,)."""
        check_is_fitted(self)
        (X,) = _validated(self, X, reset=False, dtype=np.float64)
        mean: Array = X @ self.coef_
        if not return_std:
            return mean
        return mean, np.sqrt(self.posterior_.variances(X) + self.noise_**2)


def _validated(estimator: EvidenceRidge, *arrays: Any, **kwargs: Any) -> tuple[Array, ...]:
    """scikit-learn's own checks, each fault in one line."""
    try:
        found = validate_data(estimator, *arrays, **kwargs)
    except ValueError as error:
        raise FitError(" ".join(str(error).split())) from error
    return found if isinstance(found, tuple) else (found,)


def _repeats(sample_weight: ArrayLike | None, m: int) -> Array:
    """(m,) sample weights. Raises FitError for shapes or values that are none."""
    w = np.asarray(1.0 if sample_weight is None else sample_weight, float)
    if w.shape not in ((), (m,)):
        raise FitError(f"sample_weight {w.shape} must be a number or one for each of the {m} rows")
    if not (np.isfinite(w).all() and w.min() >= 0):
        raise FitError("sample_weight must be finite and not negative")
    if not w.any():
        raise FitError("every sample_weight is zero; give at least one row a weight")
    return np.broadcast_to(w, (m,)).astype(float)
