"""The flat index arrays that the kernels walk through, built once per basis.

One-particle index k: sorted by (neighbour species, harmonic, radial row), so that all radial functions of one harmonic
of one species are a run (a group). Pair functions use a harmonic of their own, the constant 1, numbered after the rest.
"""

# ruff: noqa: E741  (l is the degree of a harmonic)
from __future__ import annotations

from math import factorial, pi, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farfield.service.surrogate.kernels.core import core_parameters
from farfield.service.surrogate.kernels.coupling import real_coupling
from farfield.service.surrogate.kernels.radial import RadialBasis

if TYPE_CHECKING:
    from farfield.service.surrogate.basis import Basis, Shell

__all__ = ["Layout", "build_layout", "harmonic_norms"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


class Layout(NamedTuple):
    """Sizes: S species, A one-particle functions, B functions per centre species, T product terms."""

    species: int
    functions: int
    lmax: int
    many: int
    pair: int
    cutoff: float
    r0: Array
    """(S, S) of centre and neighbour species, Å; the same holds for the four below."""
    xcut: Array
    core_cut: Array
    core_strength: Array
    core_length: Array
    ra: Array
    rb: Array
    pa: Array
    pb: Array
    ynorm: Array
    """((lmax + 1)^2,) norms of the harmonics."""
    group_species: Index
    group_harmonic: Index
    group_ptr: Index
    row: Index
    """(A,) radial row of each one-particle function; pair rows follow the many-body rows."""
    term: Index
    """(T, 3) factors of each product term, function by function; index A stands for the factor 1."""
    coupling: Array
    term_ptr: Index
    slot: Index
    """(T, 3) where each factor's derivative is collected; -1 for none."""
    jac: Index
    """one-particle index of each Jacobian entry, sorted within a function, hence by species."""
    jac_ptr: Index
    """(B S + 1,) runs of entries of one function and one neighbour species."""
    sorted_term: Index
    """the terms again, by number of factors and then by factors, for the contracted kernel."""
    singles: int
    doubles: int
    """sorted_term[:singles] have one factor, [singles:doubles] two, the rest three."""
    order: Index
    """sorted_term = term[order]"""
    owner: Index
    """(T,) function that owns each sorted term"""


def harmonic_norms(lmax: int) -> Array:
    """N_lm of real orthonormal harmonics N_lm Pi_l^|m|(z) {c_m, s_m}, index l^2 + l + m."""
    norms = np.zeros((lmax + 1) ** 2)
    for l in range(lmax + 1):
        for m in range(-l, l + 1):
            ratio = factorial(l - abs(m)) / factorial(l + abs(m))
            norms[l * l + l + m] = sqrt((2 * l + 1) / (4 * pi) * ratio * (2 if m else 1))
    return norms


def build_layout(basis: Basis) -> Layout:
    """Index arrays of `basis`."""
    shells = sorted({s for f in basis.functions for s in f})
    many = max((s.n for s in shells if not s.pair), default=0)
    pair = max((s.n for s in shells if s.pair), default=0)
    lmax = max((s.l for s in shells), default=0)
    constant = (lmax + 1) ** 2
    entries = []  # (species, harmonic, radial row, shell, m)
    for s in shells:
        for m in range(2 * s.l + 1):
            entries.append((s.species, constant if s.pair else s.l**2 + m, s.n - 1 + (many if s.pair else 0), s, m))
    entries.sort(key=lambda e: e[:3])
    where = {(e[3], e[4]): k for k, e in enumerate(entries)}
    size = len(entries)
    starts = [k for k in range(size) if k == 0 or entries[k][:2] != entries[k - 1][:2]]

    term, coupling, owner, term_ptr = [], [], [], [0]
    for v, f in enumerate(basis.functions):
        for factors, c in _terms(f, where).items():
            term.append(factors + (size,) * (3 - len(factors)))
            coupling.append(c)
            owner.append(v)
        term_ptr.append(len(term))
    slot = np.full((len(term), 3), -1, np.int64)
    jac: list[int] = []
    jac_ptr = [0]
    species_of = np.array([e[0] for e in entries] + [-1])
    for v in range(len(basis.functions)):
        here = range(term_ptr[v], term_ptr[v + 1])
        used = sorted({k for t in here for k in term[t] if k < size})
        place = {k: len(jac) + q for q, k in enumerate(used)}
        for t in here:
            slot[t] = [place.get(k, -1) for k in term[t]]
        for z in range(len(basis.species)):
            jac_ptr.append(jac_ptr[-1] + int(np.sum(species_of[used] == z)))
        jac += used
    factors_of = np.array(term, np.int64).reshape(-1, 3)
    count = (factors_of < size).sum(1)
    order = np.lexsort((factors_of[:, 2], factors_of[:, 1], factors_of[:, 0], count)).astype(np.int64)
    radials = [[RadialBasis(basis.cutoff, r0, many, pair) for r0 in row] for row in basis.distances]
    cut, strength, length = core_parameters(basis)
    return Layout(
        species=len(basis.species),
        functions=len(basis.functions),
        lmax=lmax,
        many=many,
        pair=pair,
        cutoff=float(basis.cutoff),
        r0=basis.distances.copy(),
        xcut=np.array([[r.map_at_cutoff for r in row] for row in radials]),
        core_cut=cut,
        core_strength=strength,
        core_length=length,
        **dict(zip(("ra", "rb", "pa", "pb"), radials[0][0].recursions(), strict=True)),
        ynorm=harmonic_norms(lmax),
        group_species=np.array([entries[k][0] for k in starts], np.int64),
        group_harmonic=np.array([entries[k][1] for k in starts], np.int64),
        group_ptr=np.array([*starts, size], np.int64),
        row=np.array([e[2] for e in entries], np.int64),
        term=factors_of,
        coupling=np.array(coupling),
        term_ptr=np.array(term_ptr, np.int64),
        slot=slot,
        jac=np.array(jac, np.int64),
        jac_ptr=np.array(jac_ptr, np.int64),
        sorted_term=np.ascontiguousarray(factors_of[order]),
        singles=int((count == 1).sum()),
        doubles=int((count <= 2).sum()),
        order=order,
        owner=np.array(owner, np.int64)[order],
    )


def _terms(f: tuple[Shell, ...], where: dict[tuple[Shell, int], int]) -> dict[tuple[int, ...], float]:
    """Products of one-particle functions in one invariant: sorted factors -> summed coupling."""
    terms: dict[tuple[int, ...], float] = {}
    if len(f) == 1:
        terms[(where[f[0], 0],)] = 1.0
    elif len(f) == 2:
        width = 2 * f[0].l + 1
        for m in range(width):
            key = tuple(sorted((where[f[0], m], where[f[1], m])))
            terms[key] = terms.get(key, 0.0) + 1 / sqrt(width)
    else:
        W = real_coupling(f[0].l, f[1].l, f[2].l)
        for ms in np.argwhere(W):
            key = tuple(sorted(where[s, int(m)] for s, m in zip(f, ms, strict=True)))
            terms[key] = terms.get(key, 0.0) + float(W[tuple(ms)])
    return {k: terms[k] for k in sorted(terms) if abs(terms[k]) > 1e-13}
