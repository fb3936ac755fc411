"""Compiled kernels: pair tables, design rows and the contracted evaluation.

All jitted code lives in this file, because numba's disk cache notices changes of a function's own file only. Inner
loops run over the neighbours of one centre, from zero over slices, so that they vectorise (loops with another start
keep the test for negative indices and do not). Inputs must be finite: fastmath assumes it, `pairs` checks it.
"""

# ruff: noqa: E741  (l is the degree of a harmonic)
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from farfield.service.surrogate.kernels.layout import Layout
from farfield.service.surrogate.kernels.vectors import BLOCK, WIDTH, slopes_and_sums, weighted_sum

__all__ = ["contract_rows", "design_rows"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., Any])

AGNESI = 10.0 / 13.0  # as in `radial` and `core`; literals, so that the disk cache cannot hold stale ones
CENTRE = 1.2
FADE = 0.6


def compiled(function: Function) -> Function:
    """numba.njit, releasing the GIL, with a disk cache where any folder for one is writable."""
    try:
        return cast(Function, numba.njit(fastmath=True, cache=True, nogil=True)(function))
    except RuntimeError:  # numba: "no locator available"; compiling anew in each process still works
        return cast(Function, numba.njit(fastmath=True, nogil=True)(function))


@compiled
def _pad(i: int, m: int, s: int, cutoff: float, near: Index, at: Index, d: Array) -> int:
    """Ends the run of species `s` after `m` pairs; returns where the next begins."""
    at[1, s] = m
    while m % WIDTH != 0:
        near[m] = i
        d[0, m], d[1, m], d[2, m], d[3, m] = cutoff, 0.0, 0.0, cutoff * cutoff
        m += 1
    at[0, s + 1] = m
    return m


@compiled
def _gather(
    i: int, ptr: Index, j: Index, offset: Array, x: Array, z: Index, cutoff: float, near: Index, at: Index, d: Array
) -> int:
    """Pairs of centre `i` inside the cutoff: `near` atoms, `d` rows x y z r 1/r ux uy uz.

    Species s holds at[0, s] to at[1, s]; up to at[0, s + 1] follow, in whole vectors, pairs of `i` with itself at the
    cutoff, where all functions vanish. Returns their number in all, 0 without neighbours.
    """
    m = 0
    last = 0
    found = 0
    at[0, 0] = 0
    for q in range(ptr[i], ptr[i + 1]):
        k = j[q]
        a = x[k, 0] + offset[q, 0] - x[i, 0]
        b = x[k, 1] + offset[q, 1] - x[i, 1]
        c = x[k, 2] + offset[q, 2] - x[i, 2]
        r2 = a * a + b * b + c * c
        if r2 < cutoff * cutoff:
            while last < z[k]:
                m = _pad(i, m, last, cutoff, near, at, d)
                last += 1
            near[m] = k
            d[0, m], d[1, m], d[2, m], d[3, m] = a, b, c, r2
            m += 1
            found += 1
    if found == 0:
        return 0
    while last < at.shape[1] - 1:
        m = _pad(i, m, last, cutoff, near, at, d)
        last += 1
    r0, r1, r2_, r3, r4, r5, r6, r7 = d[0, :m], d[1, :m], d[2, :m], d[3, :m], d[4, :m], d[5, :m], d[6, :m], d[7, :m]
    for t in range(m):
        r = np.sqrt(r3[t])
        inverse = 1.0 / r
        r3[t], r4[t] = r, inverse
        r5[t], r6[t], r7[t] = r0[t] * inverse, r1[t] * inverse, r2_[t] * inverse
    return m


@compiled
def _recursion(count: int, a: Array, b: Array, y: Array, dy: Array, R: Array, D: Array) -> None:
    """Rows 1.. of the radial functions and slopes from row 0 (`radial._products`)."""
    m = y.size
    for k in range(1, count):
        R1, D1, Rk, Dk = R[k - 1], D[k - 1], R[k], D[k]
        shift, inverse = a[k - 1], 1.0 / b[k]
        if k == 1:
            for t in range(m):
                Rk[t] = (y[t] - shift) * R1[t] * inverse
                Dk[t] = ((y[t] - shift) * D1[t] + dy[t] * R1[t]) * inverse
        else:
            R2, D2, back = R[k - 2], D[k - 2], b[k - 1]
            for t in range(m):
                Rk[t] = ((y[t] - shift) * R1[t] - back * R2[t]) * inverse
                Dk[t] = ((y[t] - shift) * D1[t] + dy[t] * R1[t] - back * D2[t]) * inverse


@compiled
def _fade(lay: Layout, zi: int, at: Index, r: Array, R: Array, D: Array) -> None:
    """Fades the first rows out inside the core (`radial`); the recursions carry it to all others."""
    for z in range(lay.species):
        cut = lay.core_cut[zi, z]
        for t in range(at[0, z], at[1, z]):
            if r[t] < cut:
                x = max((r[t] / cut - FADE) / (1.0 - FADE), 0.0)
                f, df = x * x * x * (10.0 - 15.0 * x + 6.0 * x * x), 30.0 * x * x * (1.0 - x) * (1.0 - x)
                df /= (1.0 - FADE) * cut
                D[0, t] = D[0, t] * f + R[0, t] * df
                R[0, t] *= f
                if lay.pair > 0 and lay.many > 0:
                    k = lay.many
                    D[k, t] = D[k, t] * f + R[k, t] * df
                    R[k, t] *= f


@compiled
def _radial(lay: Layout, zi: int, m: int, at: Index, d: Array, R: Array, D: Array, w: Array) -> None:
    """Radial rows R and slopes D (many + pair, m) about a centre of species `zi`."""
    y, dy = w[0, :m], w[1, :m]
    for z in range(lay.species):
        a, b = at[0, z], at[0, z + 1]
        rz, yz, dyz, Rz, Dz = d[3, a:b], w[0, a:b], w[1, a:b], R[0, a:b], D[0, a:b]
        per_r0, xcut = 1.0 / (CENTRE * lay.r0[zi, z]), lay.xcut[zi, z]
        scale = 2.0 / (1.0 - xcut)
        n0 = 1.0 / lay.rb[0]
        for t in range(b - a):
            s = rz[t] * per_r0
            s2 = s * s
            v = 1.0 / (1.0 + s2)
            g = AGNESI * s2 * s2 * v
            dg = AGNESI * s2 * s * (4.0 + 2.0 * s2) * v * v * per_r0
            x = 1.0 / (1.0 + g)
            yt = scale * (x - xcut) - 1.0
            dyt = -scale * dg * x * x
            yz[t], dyz[t] = yt, dyt
            outer = max(0.5 * (1.0 + yt), 0.0)
            Rz[t] = outer * outer * outer * n0
            Dz[t] = 1.5 * outer * outer * dyt * n0
    if lay.pair > 0:
        P0, Q0 = R[lay.many, :m], D[lay.many, :m]
        r, inverse = d[3, :m], d[4, :m]
        per_cutoff = 1.0 / lay.cutoff
        n0 = 1.0 / lay.pb[0]
        for t in range(m):
            s = max(1.0 - r[t] * per_cutoff, 0.0)
            P0[t] = s * s * s * lay.cutoff * inverse[t] * n0
            Q0[t] = -s * s * inverse[t] * (3.0 + s * lay.cutoff * inverse[t]) * n0
    _fade(lay, zi, at, d[3, :m], R, D)
    _recursion(lay.many, lay.ra, lay.rb, y, dy, R[: lay.many, :m], D[: lay.many, :m])
    if lay.pair > 0:
        _recursion(lay.pair, lay.pa, lay.pb, y, dy, R[lay.many :, :m], D[lay.many :, :m])


@compiled
def _core(lay: Layout, zi: int, at: Index, r: Array, slope: Array) -> float:
    """Energy of a centre's share of the core (`core`), whose derivative by r is added to `slope`."""
    energy = 0.0
    for z in range(lay.species):
        cut, strength, length = lay.core_cut[zi, z], lay.core_strength[zi, z], lay.core_length[zi, z]
        for t in range(at[0, z], at[1, z]):
            if r[t] < cut:
                x, q = r[t] / cut, r[t] / length
                e0, e1 = 0.18175 * np.exp(-3.19980 * q), 0.50986 * np.exp(-0.94229 * q)
                e2, e3 = 0.28022 * np.exp(-0.40290 * q), 0.02817 * np.exp(-0.20162 * q)
                screen = e0 + e1 + e2 + e3
                dscreen = -(3.19980 * e0 + 0.94229 * e1 + 0.40290 * e2 + 0.20162 * e3) / length
                switch = (1.0 - x) ** 3 * (1.0 + 3.0 * x + 6.0 * x * x)
                dswitch = -30.0 * x * x * (1.0 - x) * (1.0 - x) / cut
                half = 0.5 * strength / r[t]
                energy += half * screen * switch
                slope[t] += half * (dscreen * switch + screen * dswitch - screen * switch / r[t])
    return energy


@compiled
def _harmonics(lay: Layout, m: int, d: Array, Y: Array, G: Array, P: Array, C: Array) -> None:
    """Harmonics Y ((lmax+1)^2 + 1, m) and tangential gradients G (.., 3, m), 1/Å; the last row is the constant 1.

    P holds the derivatives of Legendre polynomials d^m P_l / dz^m, C the rows c_m then s_m of (x + iy)^m.
    """
    L = lay.lmax
    inverse, ux, uy, uz = d[4, :m], d[5, :m], d[6, :m], d[7, :m]
    double = 1.0
    for k in range(L + 1):
        ck, sk = C[k, :m], C[L + 1 + k, :m]
        if k == 0:
            for t in range(m):
                ck[t], sk[t] = 1.0, 0.0
        else:
            double *= 2 * k - 1
            c1, s1 = C[k - 1, :m], C[L + k, :m]
            for t in range(m):
                ck[t], sk[t] = ux[t] * c1[t] - uy[t] * s1[t], ux[t] * s1[t] + uy[t] * c1[t]
        top = P[k * (L + 2) + k, :m]
        beyond = P[(k + 1) * (L + 2) + k, :m]
        for t in range(m):
            top[t], beyond[t] = double, 0.0
        for l in range(k + 1, L + 1):
            now, p1 = P[k * (L + 2) + l, :m], P[k * (L + 2) + l - 1, :m]
            f1, f2 = (2 * l - 1) / (l - k), (l + k - 1) / (l - k)
            if l - 2 >= k:
                p2 = P[k * (L + 2) + l - 2, :m]
                for t in range(m):
                    now[t] = f1 * uz[t] * p1[t] - f2 * p2[t]
            else:
                for t in range(m):
                    now[t] = f1 * uz[t] * p1[t]
    for k in range(L + 1):
        c, s = C[k, :m], C[L + 1 + k, :m]
        kk = max(k - 1, 0)
        c1, s1 = C[kk, :m], C[L + 1 + kk, :m]
        for l in range(k, L + 1):
            at = l * l + l
            n = lay.ynorm[at + k]
            p, dp = P[k * (L + 2) + l, :m], P[(k + 1) * (L + 2) + l, :m]
            Yk, gx, gy, gz = Y[at + k, :m], G[at + k, 0, :m], G[at + k, 1, :m], G[at + k, 2, :m]
            for t in range(m):
                f = n * p[t]
                a, b, e = k * f * c1[t], -k * f * s1[t], n * dp[t] * c[t]
                dot = a * ux[t] + b * uy[t] + e * uz[t]
                Yk[t] = f * c[t]
                gx[t] = (a - dot * ux[t]) * inverse[t]
                gy[t] = (b - dot * uy[t]) * inverse[t]
                gz[t] = (e - dot * uz[t]) * inverse[t]
            if k > 0:
                Yk, gx, gy, gz = Y[at - k, :m], G[at - k, 0, :m], G[at - k, 1, :m], G[at - k, 2, :m]
                for t in range(m):
                    f = n * p[t]
                    a, b, e = k * f * s1[t], k * f * c1[t], n * dp[t] * s[t]
                    dot = a * ux[t] + b * uy[t] + e * uz[t]
                    Yk[t] = f * s[t]
                    gx[t] = (a - dot * ux[t]) * inverse[t]
                    gy[t] = (b - dot * uy[t]) * inverse[t]
                    gz[t] = (e - dot * uz[t]) * inverse[t]
    last = Y.shape[0] - 1
    for t in range(m):
        Y[last, t] = 1.0
        G[last, 0, t], G[last, 1, t], G[last, 2, t] = 0.0, 0.0, 0.0


@compiled
def _densities(lay: Layout, at: Index, R: Array, Y: Array, A: Array) -> None:
    """A_k = sum_j R Y over the neighbours of k's species."""
    for g in range(lay.group_species.size):
        z = lay.group_species[g]
        a, b = at[0, z], at[0, z + 1]
        Yg = Y[lay.group_harmonic[g], a:b]
        for k in range(lay.group_ptr[g], lay.group_ptr[g + 1]):
            Rk = R[lay.row[k], a:b]
            s = 0.0
            for t in range(b - a):
                s += Rk[t] * Yg[t]
            A[k] = s


@compiled
def _slopes(lay: Layout, at: Index, d: Array, R: Array, D: Array, Y: Array, G: Array, w: Array, S: Array) -> None:
    """Rows of S: d(phi_k)/dr_ij as x, y, z runs over k's neighbours, then their sums (3) and virial sums (6)."""
    for g in range(lay.group_species.size):
        z, h = lay.group_species[g], lay.group_harmonic[g]
        a, b, n = at[0, z], at[0, z + 1], at[1, z] - at[0, z]
        Yg, Yu = Y[h, a:b], w[:3, : b - a]
        for x in range(3):
            u, Yx = d[5 + x, a:b], Yu[x]
            for t in range(b - a):
                Yx[t] = Yg[t] * u[t]
        Gg, dg = G[h, :, a:b], d[:3, a:b]
        for k in range(lay.group_ptr[g], lay.group_ptr[g + 1]):
            slopes_and_sums(n, D[lay.row[k], a:b], R[lay.row[k], a:b], Yu, Gg, dg, S[k])


@compiled
def _longest(ptr: Index, species: int) -> int:
    """Room for the longest list of one centre, each species padded."""
    top = 1
    for i in range(ptr.size - 1):
        top = max(top, ptr[i + 1] - ptr[i])
    return top + species * WIDTH


@compiled
def design_rows(
    lay: Layout,
    centres: Index,
    species: Index,
    ptr: Index,
    j: Index,
    offset: Array,
    x: Array,
    E: Array,
    F: Array,
    V: Array,
) -> None:
    """Adds rows of `centres` to E (K,), F (K, 3N), V (K, 6); the one-body columns are the caller's."""
    S_, B, nA = lay.species, lay.functions, lay.row.size
    top = _longest(ptr, lay.species)
    near, at, d, w = np.empty(top, np.int64), np.zeros((2, S_ + 1), np.int64), np.empty((8, top)), np.empty((3, top))
    R, D = np.empty((lay.many + lay.pair + 1, top)), np.empty((lay.many + lay.pair + 1, top))
    nY = (lay.lmax + 1) ** 2 + 1
    Y, G = np.empty((nY, top)), np.empty((nY, 3, top))
    P, C = np.empty(((lay.lmax + 2) ** 2, top)), np.empty((2 * lay.lmax + 2, top))
    room = (3 * top + 9 + BLOCK) // BLOCK * BLOCK
    S, g = np.zeros((nA, room)), np.empty(room)
    A, J, to = np.ones(nA + 1), np.empty(lay.jac.size), np.empty(3 * top, np.uint64)
    for i in centres:
        m = _gather(i, ptr, j, offset, x, species, lay.cutoff, near, at, d)
        if m == 0:
            continue
        _radial(lay, species[i], m, at, d, R, D, w)
        _harmonics(lay, m, d, Y, G, P, C)
        _densities(lay, at, R, Y, A)
        _slopes(lay, at, d, R, D, Y, G, w, S)
        first = species[i] * B
        for h in range(J.size):
            J[h] = 0.0
        for v in range(B):
            s = 0.0
            for t in range(lay.term_ptr[v], lay.term_ptr[v + 1]):
                a0, a1, a2 = A[lay.term[t, 0]], A[lay.term[t, 1]], A[lay.term[t, 2]]
                c = lay.coupling[t]
                s += c * a0 * a1 * a2
                J[lay.slot[t, 0]] += c * a1 * a2
                if lay.slot[t, 1] >= 0:
                    J[lay.slot[t, 1]] += c * a0 * a2
                    if lay.slot[t, 2] >= 0:
                        J[lay.slot[t, 2]] += c * a0 * a1
            E[first + v] += s
        for z in range(S_):
            a, n = at[0, z], at[1, z] - at[0, z]
            if n == 0:
                continue
            for t in range(n):
                to[t] = np.uint64(3 * near[a + t])
            width = (3 * n + 8 + BLOCK) // BLOCK * BLOCK  # columns past the sums are never read
            gx, gy, gw = g[:n], g[n : 2 * n], g[2 * n : 3 * n]
            for v in range(B):
                lo, hi = lay.jac_ptr[v * S_ + z], lay.jac_ptr[v * S_ + z + 1]
                if lo == hi:
                    continue
                weighted_sum(lo, hi, lay.jac, J, S, width, g)
                Fv = F[first + v]
                for t in range(n):
                    q = to[t]
                    Fv[q] -= gx[t]
                    Fv[q + np.uint64(1)] -= gy[t]
                    Fv[q + np.uint64(2)] -= gw[t]
                for k in range(3):
                    Fv[3 * i + k] += g[3 * n + k]
                for k in range(6):
                    V[first + v, k] -= g[3 * n + 3 + k]


@compiled
def _site(lay: Layout, c: Array, A: Array, U: Array) -> float:
    """Energy of one site and U_k = dE/dA_k, from the sorted terms with their coefficients `c`."""
    s = 0.0
    T = lay.sorted_term
    for k in range(U.size):
        U[k] = 0.0
    for t in range(lay.singles):
        s += c[t] * A[T[t, 0]]
        U[T[t, 0]] += c[t]
    for t in range(lay.singles, lay.doubles):
        p, q = T[t, 0], T[t, 1]
        u = c[t] * A[p]
        s += u * A[q]
        U[p] += c[t] * A[q]
        U[q] += u
    t, end = lay.doubles, T.shape[0]
    while t < end:  # runs of equal first two factors
        p, q = T[t, 0], T[t, 1]
        ab, u = A[p] * A[q], 0.0
        while t < end and T[t, 0] == p and T[t, 1] == q:
            k = T[t, 2]
            u += c[t] * A[k]
            U[k] += c[t] * ab
            t += 1
        s += u * ab
        U[p] += u * A[q]
        U[q] += u * A[p]
    return s


@compiled
def contract_rows(
    lay: Layout, c: Array, species: Index, ptr: Index, j: Index, offset: Array, x: Array, e: Array, F: Array, V: Array
) -> float:
    """Site energies e (N,), forces F (N, 3) and virial V (6,), added up, for coefficients `c` (S, T) of sorted terms.

    Returns the shortest distance, Å (infinity without neighbours).
    """
    top = _longest(ptr, lay.species)
    near, at, d, w = (
        np.empty(top, np.int64),
        np.zeros((2, lay.species + 1), np.int64),
        np.empty((8, top)),
        np.empty((6, top)),
    )
    R, D = np.empty((lay.many + lay.pair + 1, top)), np.empty((lay.many + lay.pair + 1, top))
    nY, nA = (lay.lmax + 1) ** 2 + 1, lay.row.size
    Y, G = np.empty((nY, top)), np.empty((nY, 3, top))
    P, C = np.empty(((lay.lmax + 2) ** 2, top)), np.empty((2 * lay.lmax + 2, top))
    A, U = np.ones(nA + 1), np.empty(nA + 1)
    shortest = 1e300
    for i in range(species.size):
        m = _gather(i, ptr, j, offset, x, species, lay.cutoff, near, at, d)
        if m == 0:
            continue
        _radial(lay, species[i], m, at, d, R, D, w)
        _harmonics(lay, m, d, Y, G, P, C)
        _densities(lay, at, R, Y, A)
        e[i] += _site(lay, c[species[i]], A, U)
        fx, fy, fz, dr = w[2, :m], w[3, :m], w[4, :m], w[5, :m]
        for t in range(m):
            fx[t], fy[t], fz[t], dr[t] = 0.0, 0.0, 0.0, 0.0
        for g in range(lay.group_species.size):
            a, b = at[0, lay.group_species[g]], at[0, lay.group_species[g] + 1]
            n, h = b - a, lay.group_harmonic[g]
            value, slope = w[0, :n], w[1, :n]
            lo = lay.group_ptr[g]
            Rk, Dk, u = R[lay.row[lo], a:b], D[lay.row[lo], a:b], U[lo]
            for t in range(n):
                value[t] = u * Rk[t]
                slope[t] = u * Dk[t]
            for k in range(lo + 1, lay.group_ptr[g + 1]):
                Rk, Dk, u = R[lay.row[k], a:b], D[lay.row[k], a:b], U[k]
                for t in range(n):
                    value[t] += u * Rk[t]
                    slope[t] += u * Dk[t]
            Yg, gx, gy, gz = Y[h, a:b], G[h, 0, a:b], G[h, 1, a:b], G[h, 2, a:b]
            px, py, pz, pr = fx[a:b], fy[a:b], fz[a:b], dr[a:b]
            for t in range(n):
                pr[t] += slope[t] * Yg[t]
                px[t] += value[t] * gx[t]
                py[t] += value[t] * gy[t]
                pz[t] += value[t] * gz[t]
        e[i] += _core(lay, species[i], at, d[3, :m], dr)
        r, ux, uy, uz = d[3, :m], d[5, :m], d[6, :m], d[7, :m]
        dx, dy, dz = d[0, :m], d[1, :m], d[2, :m]
        s0, s1, s2, v0, v1, v2, v3, v4, v5 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for t in range(m):
            shortest = min(shortest, r[t])
            p, q, s = fx[t] + dr[t] * ux[t], fy[t] + dr[t] * uy[t], fz[t] + dr[t] * uz[t]
            fx[t], fy[t], fz[t] = p, q, s
            s0 += p
            s1 += q
            s2 += s
            v0 += p * dx[t]
            v1 += q * dy[t]
            v2 += s * dz[t]
            v3 += q * dz[t]
            v4 += p * dz[t]
            v5 += p * dy[t]
        for t in range(m):
            k = near[t]
            F[k, 0] -= fx[t]
            F[k, 1] -= fy[t]
            F[k, 2] -= fz[t]
        F[i, 0] += s0
        F[i, 1] += s1
        F[i, 2] += s2
        V[0] -= v0
        V[1] -= v1
        V[2] -= v2
        V[3] -= v3
        V[4] -= v4
        V[5] -= v5
    return shortest
