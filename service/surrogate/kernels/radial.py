"""Radial functions: the Agnesi map, orthonormal polynomials with an envelope, and the pair set.

With s = r / (1.2 r0) the map x(r) = 1 / (1 + a s^4 / (1 + s^2)), a = 10/13, is steepest at s = 1 (Witt et al., J. Chem.
Phys. 159, 164101 (2023)); y runs linearly in x from +1 at r = 0 to -1 at the cutoff.

Many-body set: R_n = P_n(y) e(y), e = ((1 + y)/2)^3, P_n orthonormal on [-1, 1] to the weight e^2. The cube makes the
site energy C2 at the cutoff, which force constants need. There is no second factor that vanishes at r = 0: with one the
same number of functions gave twice the force error on Cu and Si, as it bends all functions where no neighbour ever is.
Pair set: L_n(y) (1 - r/rc)^3 rc/r with orthonormal Legendre L_n: it keeps a repulsive wall.

Where the fixed core acts (`core`, nearer than r_c) both sets fade out: they are multiplied by x^3 (10 - 15 x + 6 x^2),
x = (r/r_c - 0.6) / 0.4, which is 1 with two vanishing derivatives at r_c and 0 below 0.6 r_c. No data lie there, and
extrapolated functions had holes there that no repulsion outweighs; sampled distances are as if it were not.

This module is the plain definition; the compiled kernels repeat it and are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AGNESI", "CENTRE", "FADE", "RadialBasis", "orthonormal_recursion"]

Array = NDArray[np.float64]

AGNESI = 10.0 / 13.0
"""a = (-2q + p (4q - 2)) / (p + p^2 + q + q^2) for p = 2, q = 4: the map is steepest at s = 1."""

CENTRE = 1.2
"""s = r / (CENTRE r0): between the first shells. Measured on Cu, W and Si: 1.0 is 0 to 60 % worse, 1.5 is uneven."""

FADE = 0.6
"""Below this share of the core radius nothing but the core is left."""


def orthonormal_recursion(count: int, weight: Callable[[Array], Array], points: int = 400) -> tuple[Array, Array]:
    """Coefficients a (count,), b (count + 1,) of polynomials orthonormal on [-1, 1] to `weight`.

    b[k+1] P[k+1] = (y - a[k]) P[k] - b[k] P[k-1], P[0] = 1 / b[0], by the Stieltjes procedure on a Gauss grid
    (Gautschi, Orthogonal Polynomials, 2004, section 2.2); exact while 2 count plus the weight's degree < 2 points.
    """
    y, w = np.polynomial.legendre.leggauss(points)
    w = w * weight(y)
    a, b = np.zeros(count), np.zeros(count + 1)
    b[0] = np.sqrt(w.sum())
    before, now = np.zeros_like(y), np.full_like(y, 1 / b[0])
    for k in range(count):
        a[k] = np.sum(w * y * now * now)
        rest = (y - a[k]) * now - (b[k] * before if k else 0.0)
        b[k + 1] = np.sqrt(np.sum(w * rest * rest))
        before, now = now, rest / b[k + 1]
    return a, b


def _envelope_squared(y: Array) -> Array:
    result: Array = ((1 + y) / 2) ** 6
    return result


def _agnesi(s: Array) -> Array:
    result: Array = 1 / (1 + AGNESI * s**4 / (1 + s**2))
    return result


@dataclass(frozen=True)
class RadialBasis:
    """`many` many-body and `pair` pair functions on [0, cutoff] (Å); `r0` (Å) is the nearest-neighbour distance,
    `core` (Å) the distance below which they fade."""

    cutoff: float
    r0: float
    many: int
    pair: int
    core: float = 0.0

    @property
    def map_at_cutoff(self) -> float:
        """x(cutoff) of the Agnesi map."""
        return float(_agnesi(np.array(self.cutoff / (CENTRE * self.r0))))

    def recursions(self) -> tuple[Array, Array, Array, Array]:
        """(a, b) of the many-body set, then (a, b) of the pair set (Legendre)."""
        many = orthonormal_recursion(max(self.many, 1), _envelope_squared)
        pair = orthonormal_recursion(max(self.pair, 1), np.ones_like)
        return (*many, *pair)

    def mapped(self, r: Array) -> tuple[Array, Array]:
        """y(r) and dy/dr (1/Å), each of the shape of `r` (Å)."""
        s = np.asarray(r, float) / (CENTRE * self.r0)
        g = AGNESI * s**4 / (1 + s**2)
        dg = AGNESI * s**3 * (4 + 2 * s**2) / (1 + s**2) ** 2 / (CENTRE * self.r0)
        x, dx = 1 / (1 + g), -dg / (1 + g) ** 2
        scale = 2 / (1 - self.map_at_cutoff)
        return scale * (x - self.map_at_cutoff) - 1, scale * dx

    def _fading(self, r: Array) -> tuple[Array, Array]:
        """The factor that ends the functions inside the core, and its derivative."""
        if self.core == 0:
            return np.ones_like(r), np.zeros_like(r)
        x = np.clip((r / self.core - FADE) / (1 - FADE), 0, 1)
        return x**3 * (10 - 15 * x + 6 * x**2), 30 * x**2 * (1 - x) ** 2 / ((1 - FADE) * self.core)

    def evaluate(self, r: Array) -> tuple[Array, Array]:
        """Values and derivatives, each (many + pair, len(r)); zero at and beyond the cutoff."""
        r = np.atleast_1d(np.asarray(r, float))
        y, dy = self.mapped(r)
        a, b, pa, pb = self.recursions()
        outer = np.clip((1 + y) / 2, 0, None)
        e, de = outer**3, 1.5 * outer**2 * dy
        t = np.clip(1 - r / self.cutoff, 0, None)
        w = t**3 * self.cutoff / r
        dw = -(t**2) * (3 / r + t * self.cutoff / r**2)
        inside = r < self.cutoff
        f, df = self._fading(r)
        e, de, w, dw = e * f, de * f + e * df, w * f, dw * f + w * df
        many = _products(a, b, self.many, y, dy, e, de)
        pair = _products(pa, pb, self.pair, y, dy, w, dw)
        return np.concatenate([many[0], pair[0]]) * inside, np.concatenate([many[1], pair[1]]) * inside


def _products(a: Array, b: Array, count: int, y: Array, dy: Array, e: Array, de: Array) -> tuple[Array, Array]:
    """P_k(y) e and its r-derivative for k < count: the recursion holds for the products themselves."""
    values, slopes = np.zeros((count, y.size)), np.zeros((count, y.size))
    for k in range(count):
        if k == 0:
            values[0], slopes[0] = e / b[0], de / b[0]
            continue
        values[k] = (y - a[k - 1]) * values[k - 1]
        slopes[k] = (y - a[k - 1]) * slopes[k - 1] + dy * values[k - 1]
        if k > 1:
            values[k] -= b[k - 1] * values[k - 2]
            slopes[k] -= b[k - 1] * slopes[k - 2]
        values[k] /= b[k]
        slopes[k] /= b[k]
    return values, slopes
