"""The fit: weighted triangles, a smoothness prior, evidence over its strength and one global noise (decisions C8).

Model: w_t y_t = w_t A_t c + s N(0, 1) for every kind t, c_v = N(0, (s / (lambda gamma_v))^2). The loss is
sum_t w_t^2 |y_t - A_t c|^2 + lambda^2 sum gamma_v^2 c_v^2. Columns marked free keep only a negligible fixed ridge, so
that a fit without energies is still defined. lambda maximises the evidence on a logarithmic grid, with s^2 at its
maximum for each (MacKay, Neural Computation 4, 415 (1992)). QR and SVD throughout; normal equations are never formed.

The evidence is that of energies and forces alone: force-constant rows are many, mostly near zero and lightly weighted,
so they would pass for precise data and take the prior away (measured: one W cell with 73 functions, an FC column at
weight 0.05 doubled the error of test forces). Once chosen, lambda and s serve all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr, solve_triangular

from farfield.errors import FitError
from farfield.service.surrogate.posterior import Posterior
from farfield.service.surrogate.triangle import Triangle, triangular

__all__ = ["FREE_RIDGE", "GRID", "fit"]

Array = NDArray[np.float64]

FREE_RIDGE = 1e-3
"""Fixed ridge of the free columns, in units of a weighted row (a prior of 1000 s): keeps P positive definite."""

GRID = np.logspace(-10, 1, 67)
"""Candidate strengths lambda, in units of the largest singular value of the scaled rows."""


def fit(
    triangles: Mapping[str, Triangle],
    weights: Mapping[str, float],
    prior: ArrayLike,
    free: ArrayLike | None = None,
    *,
    strength: float | None = None,
    judges: Sequence[str] = ("E", "F"),
    noise_floor: float = 1e-6,
) -> Posterior:
    """The posterior from one triangle per kind and the weights between kinds.

    `prior` (K,) scales gamma; `free` (K,) mask of columns outside the prior (the one-body columns); `strength` fixes
    lambda instead of choosing it; `noise_floor` bounds s from below (eV/Å after weights), which only scales Sigma. A
    kind without weight is left out. lambda and s are read off the kinds in `judges` (all, when none of them is there).
    Raises FitError without rows, or for weights or prior that are not positive.
    """
    gamma = np.asarray(prior, float)
    K = gamma.size
    fixed = np.zeros(K, bool) if free is None else np.asarray(free, bool)
    used = [t for t in sorted(triangles) if weights.get(t, 0.0) != 0.0 and triangles[t].count]
    if not used:
        raise FitError("no observations have a weight; buy at least one cell before fitting")
    if any(triangles[t].size != K for t in used) or fixed.shape != (K,):
        raise FitError(f"triangles and prior are of different bases ({K} columns expected); rebuild the triangles")
    scale = np.array([weights[t] for t in used], float)
    if not (np.isfinite(scale).all() and scale.min() > 0 and np.isfinite(gamma).all() and gamma[~fixed].min() > 0):
        raise FitError(f"weights {dict(weights)} and prior scales must be positive and finite")

    blocks = {t: w * triangles[t].factor for w, t in zip(scale, used, strict=True)}
    judging = [t for t in used if t in judges] or used
    stack = triangular(np.asfortranarray(np.vstack([blocks[t] for t in judging])))
    rows = sum(triangles[t].count for t in judging)
    lifted, free_rank = _eliminate_free(stack, fixed)
    scaled = lifted[:, :-1] / gamma[~fixed]
    lam, evidence, noise, effective = _choose(scaled, lifted[:, -1], rows - free_rank, strength, noise_floor)

    ridge = np.where(fixed, FREE_RIDGE, lam * gamma)
    others = [blocks[t] for t in used if t not in judging]
    T = triangular(np.asfortranarray(np.vstack([stack, *others, np.hstack([np.diag(ridge), np.zeros((K, 1))])])))
    mean = solve_triangular(T[:K, :K], T[:K, K], check_finite=False)
    return Posterior(
        mean=mean,
        factor=np.ascontiguousarray(T[:K, :K]),
        noise=noise,
        strength=lam,
        evidence=evidence,
        effective=effective + free_rank,
        residual_rms={t: triangles[t].residual_rms(mean) for t in sorted(triangles)},
        weights={t: float(weights.get(t, 0.0)) for t in sorted(triangles)},
    )


def _eliminate_free(stack: Array, fixed: NDArray[np.bool_]) -> tuple[Array, int]:
    """Rows left for the penalised columns once the free ones are fitted exactly, and the rank of the free ones."""
    if not fixed.any():
        return stack, 0
    Q, R, _ = qr(stack[:, :-1][:, fixed], pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(R))
    rank = int(np.sum(diagonal > 1e-10 * max(diagonal.max(initial=0.0), 1.0)))
    rest: Array = Q[:, rank:].T @ stack[:, np.append(~fixed, True)]
    return rest, rank


def _choose(X: Array, y: Array, rows: int, strength: float | None, floor: float) -> tuple[float, float, float, float]:
    """(lambda, log evidence, noise, effective number) of y = X b + s N(0, 1), b = N(0, (s/lambda)^2).

    X and y may be a factor of the `rows` rows; what is missing are zeros.
    """
    if rows <= 0:
        raise FitError("the observations only fix the one-body columns; buy forces")
    U, S, _ = np.linalg.svd(X, full_matrices=False)
    u2 = (U.T @ y) ** 2
    outside = max(float(y @ y - u2.sum()), 0.0)
    if S.size == 0 or S[0] == 0:
        raise FitError("the rows are all zero; the cells hold no neighbours within the cutoff")
    S2 = S * S
    grid = GRID * S[0] if strength is None else np.array([float(strength)])
    best = (-np.inf, 0.0, 0.0, 0.0)
    for lam in grid:
        l2 = lam * lam
        noise2 = (outside + float(np.sum(u2 * l2 / (S2 + l2)))) / rows + floor**2
        evidence = -0.5 * rows * (np.log(2 * np.pi * noise2) + 1) - 0.5 * float(np.sum(np.log1p(S2 / l2)))
        if evidence > best[0]:
            best = (evidence, float(lam), float(np.sqrt(noise2)), float(np.sum(S2 / (S2 + l2))))
    return best[1], best[0], best[2], best[3]
