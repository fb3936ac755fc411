"""The posterior of a fit as a triangular factor; products without ever forming the covariance.

P = reg / s^2 + sum_t w_t^2 A_t^T A_t / s^2 = T^T T / s^2 and Sigma = P^-1 = s^2 T^-1 T^-T. The standard deviations
serve ranking only: they leave out the bias of the basis (theory, correction c6).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

from farfield.errors import FitError
from farfield.service.surrogate.regression.triangle import triangular

__all__ = ["Posterior"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """Result of `fit`.

    `mean` (K,) coefficients; `factor` T (K, K), upper triangular; `noise` s, eV/Å after weights; `strength` lambda of
    the prior; `evidence` its log; `effective` number of coefficients the data fix; `residual_rms` per kind, unweighted,
    in the unit of the kind's scaled rows; `weights` used.
    """

    mean: Array
    factor: Array
    noise: float
    strength: float
    evidence: float
    effective: float
    residual_rms: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def whiten(self, rows: ArrayLike) -> Array:
        """W (K, m) with W^T W = rows Sigma rows^T, for rows (m, K) or (K,). Raises FitError for other columns."""
        G = np.atleast_2d(np.asarray(rows, float))
        if G.ndim != 2 or G.shape[1] != self.mean.size:
            raise FitError(f"rows {G.shape} do not fit the {self.mean.size} columns of this fit; design them again")
        result: Array = self.noise * solve_triangular(self.factor, G.T, trans="T", check_finite=False)
        return result

    def quadratic(self, g: ArrayLike) -> float:
        """g^T Sigma g for one row g (K,): the variance of a linear prediction."""
        return float(np.sum(self.whiten(g) ** 2))

    def variances(self, rows: ArrayLike) -> Array:
        """Variance of each prediction, (m,), for rows (m, K)."""
        result: Array = np.sum(self.whiten(rows) ** 2, axis=0)
        return result

    def variance_trace(self, rows: ArrayLike) -> float:
        """tr(M Sigma) for M = rows^T rows."""
        return float(np.sum(self.whiten(rows) ** 2))

    def covariance(self, rows: ArrayLike) -> Array:
        """rows Sigma rows^T, (m, m)."""
        W = self.whiten(rows)
        result: Array = W.T @ W
        return result

    def apply(self, vector: ArrayLike) -> Array:
        """Sigma v, (K,) or (K, m)."""
        half = solve_triangular(self.factor, np.asarray(vector, float), trans="T", check_finite=False)
        result: Array = self.noise**2 * solve_triangular(self.factor, half, check_finite=False)
        return result

    def draws(self, count: int, seed: int) -> Array:
        """Coefficients (count, K) drawn from the posterior."""
        white = np.random.default_rng(seed).standard_normal((self.mean.size, count))
        result: Array = self.mean + self.noise * solve_triangular(self.factor, white, check_finite=False).T
        return result

    def factor_with(self, rows: ArrayLike) -> Array:
        """The factor after weighted rows (m, K) are added: what a candidate would teach, at the same noise."""
        return triangular(np.asfortranarray(np.vstack([self.factor, np.atleast_2d(np.asarray(rows, float))])))
