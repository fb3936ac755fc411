"""The surrogate's Hessian at its equilibrium: solves by preconditioned CG, and the search for negative curvature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

__all__ = ["HessianSolve", "lowest_curvature", "solve"]

Array = NDArray[np.float64]
Operator = Callable[[Array], Array]


@dataclass(frozen=True)
class HessianSolve:
    """G r (N, 3) in Å, the number of products, and whether the residual fell by the tolerance."""

    x: Array
    products: int
    converged: bool


def solve(
    product: Operator, r: Array, precondition: Operator, *, tolerance: float = 1e-3, limit: int = 60
) -> HessianSolve:
    """G r = H^-1 r by conjugate gradients, translations removed.

    `tolerance` on the preconditioned residual norm. Stops unconverged on negative curvature (the caller's gate).
    """
    r = r - r.mean(axis=0)
    x = np.zeros_like(r)
    residual = r.copy()
    z = precondition(residual)
    p = z.copy()
    rz = start = float((residual * z).sum())
    if start <= 0.0:
        return HessianSolve(x, 0, start == 0.0)
    for n in range(1, limit + 1):
        Hp = product(p)
        curvature = float((p * Hp).sum())
        if curvature <= 0:
            return HessianSolve(x, n, False)
        a = rz / curvature
        x += a * p
        residual -= a * (Hp - Hp.mean(axis=0))
        z = precondition(residual)
        new = float((residual * z).sum())
        if new <= tolerance**2 * start:
            return HessianSolve(x, n, True)
        p = z + (new / rz) * p
        rz = new
    return HessianSolve(x, limit, False)


def lowest_curvature(
    product: Operator, precondition: Operator, shape: tuple[int, int], rng: np.random.Generator, *, steps: int = 16
) -> float:
    """Smallest Ritz value of G_hom^{1/2} H G_hom^{1/2} from a random vector by Lanczos (dimensionless, decisions C11).

    Works in the G_hom inner product: the Krylov space of G_hom H. One means as stiff as the perfect lattice,
    negative an unstable mode. The start is random, because the residual may be orthogonal to the mode by symmetry.
    """
    q = rng.normal(size=shape)
    q -= q.mean(axis=0)
    z = precondition(q)
    norm = float(np.sqrt((q * z).sum()))
    q, z = q / norm, z / norm
    alpha: list[float] = []
    beta: list[float] = []
    qs, zs = [q], [z]
    for k in range(steps):
        w = product(zs[k])
        w = w - w.mean(axis=0)
        alpha.append(float((w * zs[k]).sum()))
        for qi, zi in zip(qs, zs, strict=True):  # full reorthogonalisation: few vectors
            w = w - float((w * zi).sum()) * qi
        z = precondition(w)
        size2 = float((w * z).sum())
        if size2 <= 1e-16 or k == steps - 1:
            break
        b = float(np.sqrt(size2))
        beta.append(b)
        qs.append(w / b)
        zs.append(z / b)
    return float(eigh_tridiagonal(np.array(alpha), np.array(beta[: len(alpha) - 1]), eigvals_only=True)[0])
