"""Real Wigner couplings: the rotation-invariant tensor of three vectors of real spherical harmonics.

For each (l1, l2, l3) in the triangle there is exactly one invariant, the Wigner 3j symbol (Racah's formula;
Varshalovich, Moskalev, Khersonskii 1988, section 8.2). Here it is rotated from complex to real harmonics, index by
index; its Frobenius norm is 1. Only an even l1 + l2 + l3 keeps its sign under reflection; odd sums are refused.
"""

# ruff: noqa: E741  (l is the degree of a harmonic)
from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import factorial, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["real_coupling", "real_from_complex", "wigner_3j"]


def wigner_3j(l1: int, l2: int, l3: int, m1: int, m2: int, m3: int) -> float:
    """The 3j symbol (l1 l2 l3; m1 m2 m3), summed in exact rational arithmetic."""
    if m1 + m2 + m3 or not abs(l1 - l2) <= l3 <= l1 + l2 or abs(m1) > l1 or abs(m2) > l2 or abs(m3) > l3:
        return 0.0
    f = factorial
    triangle = Fraction(f(l1 + l2 - l3) * f(l1 - l2 + l3) * f(l2 + l3 - l1), f(l1 + l2 + l3 + 1))
    norm = f(l1 + m1) * f(l1 - m1) * f(l2 + m2) * f(l2 - m2) * f(l3 + m3) * f(l3 - m3)
    total = Fraction(0)
    for t in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        below = f(t) * f(l3 - l2 + m1 + t) * f(l3 - l1 - m2 + t) * f(l1 + l2 - l3 - t) * f(l1 - m1 - t) * f(l2 + m2 - t)
        total += Fraction((-1) ** t, below)
    sign = -1.0 if (l1 - l2 - m3) % 2 else 1.0
    return sign * (1.0 if total > 0 else -1.0) * sqrt(triangle * norm * total * total)


def real_from_complex(l: int) -> NDArray[np.complex128]:
    """U (2l+1, 2l+1) with Y_real[m] = sum_mu U[m, mu] Y_complex[mu], rows and columns from -l to l."""
    U = np.zeros((2 * l + 1, 2 * l + 1), complex)
    U[l, l] = 1.0
    for m in range(1, l + 1):
        U[l + m, l + m] = (-1) ** m / sqrt(2)
        U[l + m, l - m] = 1 / sqrt(2)
        U[l - m, l - m] = 1j / sqrt(2)
        U[l - m, l + m] = -1j * (-1) ** m / sqrt(2)
    return U


@cache
def real_coupling(l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    """The invariant tensor W (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) of real harmonics, unit norm, read-only.

    ``sum W[a, b, c] x[a] y[b] z[c]`` is unchanged when x, y, z are rotated as harmonics of degree l1, l2, l3.
    Raises ValueError outside the triangle or for an odd sum.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2 or (l1 + l2 + l3) % 2:
        raise ValueError(f"no real invariant couples degrees {l1}, {l2}, {l3}")
    W = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            W[l1 + m1, l2 + m2, l3 - m1 - m2] = wigner_3j(l1, l2, l3, m1, m2, -m1 - m2)
    U1, U2, U3 = (real_from_complex(l).conj() for l in (l1, l2, l3))
    T: NDArray[np.float64] = np.einsum("abc,xa,yb,zc->xyz", W, U1, U2, U3, optimize=True).real
    T[np.abs(T) < 1e-14] = 0.0
    T.setflags(write=False)
    return T
