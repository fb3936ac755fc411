"""Another regressor in place of the evidence fit: any linear regressor with scikit-learn's `fit` and `coef_`.

It sees X = w A / gamma, so that its one isotropic prior is our smoothness prior, and no free columns: those are
projected out of rows and labels beforehand, as scikit-learn itself does with an intercept, and solved for afterwards.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from farfield.errors import FitError

__all__ = ["FREE_RIDGE", "Regression", "Regressor", "named_regressor", "regress", "span"]

Array = NDArray[np.float64]

FREE_RIDGE = 1e-3
"""Fixed ridge, in units of a weighted row (a prior of 1000 s), of combinations of free columns that no row fixes."""

DEPENDENT = 1e-10
"""Singular values of the free columns below this share of the largest (or of 1) are rounding."""


class Regressor(Protocol):
    """A linear model without intercept: `fit(X (m, K), y (m,)[, sample_weight (m,)])` sets `coef_` (K,).

    One that also sets `alpha_` and `lambda_`, the precisions of noise and coefficients (BayesianRidge), gives the
    posterior its spread too.
    """

    coef_: Any

    @property
    def fit(self) -> Any:
        """Fits and returns itself."""


def named_regressor(name: str) -> Regressor:
    """A regressor by its dotted name, such as ``sklearn.linear_model.BayesianRidge``, made with fit_intercept=False.

    Raises FitError for a name that is none.
    """
    module, _, attribute = name.rpartition(".")
    try:
        made: Regressor = getattr(importlib.import_module(module), attribute)(fit_intercept=False)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise FitError(
            f"there is no linear regressor {name} with a choice of intercept ({error}); "
            "name a class such as sklearn.linear_model.BayesianRidge"
        ) from error
    if not callable(getattr(made, "fit", None)):
        raise FitError(f"{name} cannot be fitted; name a class such as sklearn.linear_model.BayesianRidge")
    rows = np.random.default_rng(0).normal(size=(20, 3))
    try:  # a classifier, or one that chooses no coefficients, is found out before anything is bought
        shape = np.shape(copy.deepcopy(made).fit(rows, rows @ [1.0, 2.0, 3.0]).coef_)
    except (ValueError, TypeError, AttributeError) as error:
        raise FitError(f"{name} does not fit linear coefficients ({' '.join(str(error).split())[:120]})") from error
    if shape != (3,):
        raise FitError(f"{name} gives coefficients of shape {shape} for three columns; name a linear regressor")
    return made


class Regression(NamedTuple):
    """Coefficients (K,); strength lambda and noise s where the regressor estimates them."""

    mean: Array
    strength: float | None
    noise: float | None


def span(columns: Array) -> tuple[Array, Array]:
    """Orthonormal bases of what `columns` (m, S) of rank r reach, (m, r), and of the combinations they leave open,
    (S - r, S)."""
    m, S = columns.shape
    U, sigma, Vt = np.linalg.svd(columns, full_matrices=m < S)
    rank = int(np.sum(sigma > DEPENDENT * max(sigma.max(initial=0.0), 1.0)))
    return U[:, :rank], Vt[rank:]


def regress(
    regressor: Regressor, rows: Array, labels: Array, repeats: Array, prior: Array, free: NDArray[np.bool_]
) -> Regression:
    """Coefficients of weighted `rows` (m, K) and `labels` (m,) by a copy of `regressor`.

    `repeats` (m,), positive, how often each row counts: scikit-learn's sample_weight. `prior` (K,) gamma, `free` (K,)
    mask. Raises FitError for a regressor with an intercept, one that fails, or that gives no finite `coef_` (K,).
    """
    name = type(regressor).__name__
    if getattr(regressor, "fit_intercept", False):
        raise FitError(f"{name} fits an intercept, which the one-body columns hold; give fit_intercept=False")
    root = np.sqrt(repeats)[:, None]
    Z = root * np.column_stack([rows[:, ~free], labels])
    Q, _ = span(root * rows[:, free])
    Z -= Q @ (Q.T @ Z)
    model = copy.deepcopy(regressor)
    try:
        if "sample_weight" in inspect.signature(model.fit).parameters:
            Z /= root
            model.fit(Z[:, :-1] / prior[~free], Z[:, -1], sample_weight=repeats)
        else:
            model.fit(Z[:, :-1] / prior[~free], Z[:, -1])
    except (ValueError, np.linalg.LinAlgError) as error:
        said = " ".join(str(error).split())
        raise FitError(f"{name} could not fit the rows ({said}); take another regressor") from error
    b = np.asarray(getattr(model, "coef_", np.nan), float)
    if b.shape != (int((~free).sum()),) or not np.isfinite(b).all() or np.any(getattr(model, "intercept_", 0.0)):
        raise FitError(f"{name} gave no finite coef_ without intercept for each column; take another linear regressor")
    mean = np.zeros(free.size)
    mean[~free] = b / prior[~free]
    if free.any():
        left = root[:, 0] * (labels - rows @ mean)
        mean[free] = np.linalg.lstsq(root * rows[:, free], left, rcond=DEPENDENT)[0]
    alpha, lam = getattr(model, "alpha_", None), getattr(model, "lambda_", None)
    if alpha is None or lam is None or np.ndim(alpha) or np.ndim(lam):
        return Regression(mean, None, None)
    return Regression(mean, float(np.sqrt(lam / alpha)), float(1 / np.sqrt(alpha)))
