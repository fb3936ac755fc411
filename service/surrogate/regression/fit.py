"""The fit: weighted triangles, a smoothness prior, evidence over its strength and one global noise (decisions C8).

Model: w_t y_t = w_t A_t c + s N(0, 1) for every kind t, c_v = N(0, (s / (lambda gamma_v))^2). The loss is
sum_t w_t^2 |y_t - A_t c|^2 + lambda^2 sum gamma_v^2 c_v^2. Columns marked free are outside the sum; combinations of
them that no row fixes keep a fixed ridge, so that a fit without energies is still defined. lambda maximises the
evidence on a logarithmic grid, with s^2 at its maximum for each (MacKay, Neural Computation 4, 415 (1992)). QR and SVD
throughout; normal equations are never formed.

The evidence is that of energies and forces alone: force-constant rows are many, mostly near zero and lightly weighted,
so they would pass for precise data and take the prior away (measured: one W cell with 73 functions, an FC column at
weight 0.05 doubled the error of test forces). Once chosen, lambda and s serve all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

from farfield.errors import FitError
from farfield.service.surrogate.regression.posterior import Posterior
from farfield.service.surrogate.regression.regressor import FREE_RIDGE, Regression, Regressor, regress, span
from farfield.service.surrogate.regression.triangle import LARGEST, Triangle, in_range, triangular

__all__ = ["FREE_RIDGE", "GRID", "fit", "posterior", "scales"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

GRID = np.logspace(-10, 1, 67)
"""Candidate strengths lambda, in units of the largest singular value of the scaled rows."""

ROUNDING = 1e-5
"""A strength below the grid by this factor is lost in the rounding of the rows."""

NOTHING = 1e-10
"""Scaled rows no larger than this are rounding: the invariants are of order one wherever atoms have neighbours."""

CANCELLED = 1e-12
"""So are those no larger than this share of what they were before the free columns were fitted."""


def fit(
    triangles: Mapping[str, Triangle],
    weights: Mapping[str, float],
    prior: ArrayLike,
    free: ArrayLike | None = None,
    *,
    strength: float | None = None,
    judges: Sequence[str] = ("E", "F"),
    noise_floor: float = 1e-6,
    regressor: Regressor | None = None,
) -> Posterior:
    """The posterior from one triangle per kind and the weights between kinds.

    `prior` (K,) scales gamma; `free` (K,) mask of columns outside the prior (the one-body columns); `strength` fixes
    lambda instead of choosing it; `noise_floor` bounds s from below (eV/Å after weights), which only scales Sigma. A
    kind without weight is left out. lambda and s are read off the kinds in `judges` (all, when none of them is there).

    `regressor` gives the mean instead: it sees min(count, K + 1) rows with the same squares, cross products and total
    sample weight as all judging rows, which is all that a least-squares loss depends on (not a robust loss, nor
    left-out rows). lambda and s are its own where it sets `lambda_` and `alpha_`, else chosen here.

    Raises FitError without rows, for rows that are zero or fix the free columns only, for weights, prior or strength
    that are not positive, or a regressor that cannot be used (`regressor.regress`).
    """
    gamma, fixed = scales(prior, free)
    K = gamma.size
    used = [t for t in sorted(triangles) if weights.get(t, 0.0) != 0.0 and triangles[t].count]
    if not used:
        raise FitError("no observations have a weight; buy at least one cell before fitting")
    if any(triangles[t].size != K for t in used):
        raise FitError(f"triangles and prior are of different bases ({K} columns expected); rebuild the triangles")
    scale = np.array([weights[t] for t in used], float)
    if not (np.isfinite(scale).all() and scale.min() > 0):
        raise FitError(f"weights {dict(weights)} must be positive and finite; 0 leaves a kind out")

    blocks = {t: w * triangles[t].factor for w, t in zip(scale, used, strict=True)}
    judging = [t for t in used if t in judges] or used
    stack = triangular(np.asfortranarray(np.vstack([blocks[t] for t in judging])))
    others = [blocks[t] for t in used if t not in judging]
    rows = sum(triangles[t].count for t in judging)
    chosen = None
    if regressor is not None:
        whole = triangular(np.asfortranarray(np.vstack([stack, *others]))) if others else stack
        repeats = np.full(len(whole), rows / len(whole))
        A, y = whole[:, :-1], whole[:, -1]
        root = np.sqrt(repeats[0])
        chosen = regress(regressor, A / root, y / root, repeats, gamma, fixed)
    found = posterior(stack, others, rows, gamma, fixed, strength, noise_floor, chosen)
    return replace(
        found,
        residual_rms={t: triangles[t].residual_rms(found.mean) for t in sorted(triangles)},
        weights={t: float(weights.get(t, 0.0)) for t in sorted(triangles)},
    )


def scales(prior: ArrayLike, free: ArrayLike | None) -> tuple[Array, Mask]:
    """(gamma (K,), free (K,)) checked. Raises FitError for shapes or values that are no prior."""
    gamma = np.asarray(prior, float)
    fixed = np.zeros(gamma.shape, bool) if free is None else np.asarray(free, bool)
    if gamma.ndim != 1 or fixed.shape != gamma.shape:
        raise FitError(f"prior {gamma.shape} and free columns {fixed.shape} are of different bases; take one basis'")
    if fixed.all():
        raise FitError("every column is free, which leaves the prior nothing to carry; free the one-body columns only")
    if not (np.isfinite(gamma[~fixed]).all() and gamma[~fixed].min() > 0):
        raise FitError("prior scales must be positive and finite; take those of the basis")
    return gamma, fixed


def posterior(
    stack: Array,
    others: Sequence[Array],
    rows: float,
    gamma: Array,
    fixed: Mask,
    strength: float | None = None,
    floor: float = 1e-6,
    chosen: Regression | None = None,
) -> Posterior:
    """The posterior of a factor [A | y] of `rows` weighted rows that judge, and of `others` that do not.

    `chosen` replaces the mean, and lambda and s where it has them.
    """
    K = gamma.size
    X, y, free_rank = _judged(stack, rows, gamma, fixed)
    given = strength if chosen is None or chosen.strength is None else chosen.strength
    lam, evidence, noise, effective = _choose(X, y, rows - free_rank, given, floor)
    _, unfixed = span(np.vstack([stack, *others])[:, :-1][:, fixed])
    ridge = np.zeros((K - int(fixed.sum()) + len(unfixed), K + 1))
    ridge[np.arange(len(ridge) - len(unfixed)), np.flatnonzero(~fixed)] = lam * gamma[~fixed]
    ridge[len(ridge) - len(unfixed) :, np.flatnonzero(fixed)] = FREE_RIDGE * unfixed
    T = triangular(np.asfortranarray(np.vstack([stack, *others, ridge])))
    mean: Array = solve_triangular(T[:K, :K], T[:K, K], check_finite=False) if chosen is None else chosen.mean
    return Posterior(
        mean=mean,
        factor=np.ascontiguousarray(T[:K, :K]),
        noise=noise if chosen is None or chosen.noise is None else max(chosen.noise, floor),
        strength=lam,
        evidence=evidence,
        effective=effective + free_rank,
    )


def _judged(stack: Array, rows: float, gamma: Array, fixed: Mask) -> tuple[Array, Array, int]:
    """Scaled penalised columns and labels once the free columns are fitted exactly, and the rank of these."""
    scaled, y = stack[:, :-1][:, ~fixed] / gamma[~fixed], stack[:, -1]
    if not in_range(scaled, stack):
        raise FitError("the weighted rows or labels leave the range of numbers; check units and weights")
    Q, _ = span(stack[:, :-1][:, fixed])
    if rows <= Q.shape[1]:
        raise FitError("the observations only fix the one-body columns; buy forces")
    left = scaled - Q @ (Q.T @ scaled)
    if np.abs(left).max() <= max(NOTHING, CANCELLED * np.abs(scaled).max()):
        raise FitError("the rows are all zero: no neighbours within the cutoff, or ideal crystals; displace the atoms")
    return left, y - Q @ (Q.T @ y), Q.shape[1]


def _choose(X: Array, y: Array, rows: float, strength: float | None, floor: float) -> tuple[float, float, float, float]:
    """(lambda, log evidence, noise, effective number) of y = X b + s N(0, 1), b = N(0, (s/lambda)^2).

    X and y may be a factor of the `rows` rows; what is missing are zeros.
    """
    if not (np.isfinite(floor) and floor >= 0):
        raise FitError(f"the noise floor must not be negative, and {floor} is no number of eV/Å; leave it out")
    U, S, _ = np.linalg.svd(X, full_matrices=False)
    if strength is not None and not GRID[0] * ROUNDING * S[0] < strength < LARGEST:
        raise FitError(f"a prior of strength {strength} is no number that carries these rows; leave it out")
    u = U.T @ y
    u2 = u**2
    outside = float(np.sum((y - U @ u) ** 2))
    S2 = S * S
    tiny = max(floor**2, float(np.finfo(float).tiny))
    grid = GRID * S[0] if strength is None else np.array([float(strength)])
    best = (-np.inf, 0.0, 0.0, 0.0)
    for lam in grid:
        l2 = lam * lam
        noise2 = (outside + float(np.sum(u2 * l2 / (S2 + l2)))) / rows + tiny
        evidence = -0.5 * rows * (np.log(2 * np.pi * noise2) + 1) - 0.5 * float(np.sum(np.log1p(S2 / l2)))
        if evidence > best[0]:
            best = (evidence, float(lam), float(np.sqrt(noise2)), float(np.sum(S2 / (S2 + l2))))
    return best[1], best[0], best[2], best[3]
