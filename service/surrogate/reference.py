# ruff: noqa: E741  (l is the degree of a harmonic)
"""The plain numpy path: the formulas written out once, slowly, for the tests to compare the kernels with.

It shares only `radial` and `coupling` with the fast path: harmonics come from Legendre polynomials and complex powers,
and invariants are contracted function by function, without the index arrays of `layout`.
"""

from __future__ import annotations

from math import factorial, pi, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.legendre import Legendre
from numpy.typing import NDArray

from farfield.oracles.observation import VOIGT
from farfield.service.surrogate.kernels.coupling import real_coupling
from farfield.service.surrogate.kernels.pairs import neighbours
from farfield.service.surrogate.kernels.radial import RadialBasis
from farfield.service.surrogate.rows import Rows

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.service.surrogate.basis import Basis, Shell

__all__ = ["design", "harmonics"]

Array = NDArray[np.float64]


def harmonics(l: int, u: Array) -> tuple[Array, Array]:
    """Real orthonormal harmonics (2l + 1, n) of degree l at unit vectors u (n, 3), and their tangential gradients
    (2l + 1, n, 3) on the unit sphere."""
    Y, G = np.zeros((2 * l + 1, len(u))), np.zeros((2 * l + 1, len(u), 3))
    w = u[:, 0] + 1j * u[:, 1]
    for m in range(l + 1):
        norm = sqrt((2 * l + 1) / (4 * pi) * factorial(l - m) / factorial(l + m) * (2 if m else 1))
        p = Legendre.basis(l).deriv(m)(u[:, 2])
        dp = Legendre.basis(l).deriv(m + 1)(u[:, 2])
        power, slope = w**m, (m * w ** (m - 1) if m else np.zeros_like(w))
        for sign, part, sx, sy in ((1, power.real, slope.real, -slope.imag), (-1, power.imag, slope.imag, slope.real)):
            if m == 0 and sign < 0:
                continue
            k = l + sign * m
            Y[k] = norm * p * part
            G[k] = norm * np.stack([p * sx, p * sy, dp * part], axis=1)
    G -= np.einsum("knx,nx->kn", G, u)[:, :, None] * u
    return Y, G


def design(basis: Basis, atoms: Atoms) -> Rows:
    """`rows.design` without compiled code."""
    pairs = neighbours(basis, atoms)
    n, B, S = len(atoms), len(basis.functions), len(basis.species)
    E, F, V = np.zeros(basis.size), np.zeros((n, 3, basis.size)), np.zeros((6, basis.size))
    shells = sorted({s for f in basis.functions for s in f})
    many = max((s.n for s in shells if s.many), default=0)
    pair = max((s.n for s in shells if s.pair), default=0)
    radials = [[RadialBasis(basis.cutoff, r0, many, pair, basis.core * r0) for r0 in row] for row in basis.distances]
    for i in range(n):
        run = slice(pairs.ptr[i], pairs.ptr[i + 1])
        j, D = pairs.j[run], pairs.vectors[run]
        r = np.linalg.norm(D, axis=1)
        u = D / r[:, None]
        about = [radial.evaluate(r) for radial in radials[pairs.species[i]]]
        phi: dict[Shell, Array] = {}
        dphi: dict[Shell, Array] = {}
        for s in shells:
            own = pairs.species[j] == s.species
            R, dR = (x[s.n - 1 + (many if s.pair else 0)] * own for x in about[s.species])
            Y, G = harmonics(s.l, u)
            if s.pair:
                Y, G = np.ones_like(Y), np.zeros_like(G)
            phi[s] = np.sum(R * Y, axis=1)
            dphi[s] = dR[:, None] * Y[:, :, None] * u + (R / r)[:, None] * G
        for v, f in enumerate(basis.functions):
            column = pairs.species[i] * B + v
            if len(f) == 1:
                value, g = phi[f[0]][0], dphi[f[0]][0]
            elif len(f) == 2:
                a, b = f
                value = phi[a] @ phi[b] / sqrt(2 * a.l + 1)
                g = np.einsum("m,mnx->nx", phi[a], dphi[b]) + np.einsum("m,mnx->nx", phi[b], dphi[a])
                g /= sqrt(2 * a.l + 1)
            else:
                a, b, c = f
                W = real_coupling(a.l, b.l, c.l)
                value = np.einsum("abc,a,b,c", W, phi[a], phi[b], phi[c])
                g = np.einsum("anx,a->nx", dphi[a], np.einsum("abc,b,c->a", W, phi[b], phi[c]))
                g += np.einsum("bnx,b->nx", dphi[b], np.einsum("abc,a,c->b", W, phi[a], phi[c]))
                g += np.einsum("cnx,c->nx", dphi[c], np.einsum("abc,a,b->c", W, phi[a], phi[b]))
            E[column] += value
            np.add.at(F[:, :, column], j, -g)
            F[i, :, column] += g.sum(axis=0)
            V[:, column] -= [g[:, x] @ D[:, y] for x, y in VOIGT]
        E[S * B + pairs.species[i]] += 1
    return Rows(E, np.asfortranarray(F.reshape(3 * n, -1)), V)
