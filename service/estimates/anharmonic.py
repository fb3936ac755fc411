"""The quadratic far-field mismatch as a force: Cauchy-Born stress of oracle minus surrogate, on the sites.

T2 bounds this part by (eps_V + eps_C) ||Du||^2_{l4} / (gamma s2^{3/2}). The bound takes the softest wave and the worst
strain everywhere; measured on fcc defects it is 19 to 607 times the assembled value (docs/far_field_terms.md).
Here the mismatch energy density is fitted to the strained cells as a function of the Green-Lagrange strain E, so that
rotations, which symmetric strains never sample, follow from frame indifference:

    dW(E) = S0 : E + 1/2 C : E E + 1/6 C3 : E E E,    dP(F) = F dS(E),    F = 1 + grad u,

and the force of its part beyond linear order acts on the sites outside the verification cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import DefectCell, Host
from farfield.service.cells.images import minimum_image
from farfield.service.cells.symmetry import operations
from farfield.service.estimates.virial import piola

__all__ = ["StressMismatch", "invariant_tensors", "quadratic_force", "stress_mismatch"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StressMismatch:
    """`second` C (3, 3, 3, 3) and `third` C3 (3,)*6 of the mismatch energy per atom, eV; no residual stress."""

    second: Array
    third: Array

    def beyond_linear(self, gradients: Array) -> Array:
        """dP(1 + grad u) minus its linear part, eV per atom (M, 3, 3), for displacement gradients (M, 3, 3)."""
        F = np.eye(3) + gradients
        E = 0.5 * (np.swapaxes(F, -1, -2) @ F - np.eye(3))
        S = np.einsum("ijkl,mkl->mij", self.second, E)
        S = S + 0.5 * np.einsum("ijklpq,mkl,mpq->mij", self.third, E, E)
        return np.asarray(F @ S - np.einsum("ijkl,mkl->mij", self.second, gradients))


def stress_mismatch(host: Host, zero: Array, strained: Sequence[tuple[Array, Array]], natoms: int) -> StressMismatch:
    """Fit C and C3, invariant under the host's point group, to the mismatch V - V^h: `zero` (6,) at no strain,
    `strained` pairs (strain (3, 3), mismatch (6,)), eV for `natoms` atoms. Least squares on the second Piola stress.
    """
    invariants2, invariants3 = invariant_tensors(host)
    S0 = piola(zero, np.zeros((3, 3)), natoms)
    rows, rhs = [], []
    for e, virial in strained:
        F = np.eye(3) + e
        S = np.linalg.inv(F) @ piola(virial, e, natoms) - S0
        E = 0.5 * (F.T @ F - np.eye(3))
        columns = [np.einsum("ijkl,kl->ij", t, E) for t in invariants2]
        columns += [0.5 * np.einsum("ijklpq,kl,pq->ij", t, E, E) for t in invariants3]
        rows.append(np.array([c.ravel() for c in columns]).T)
        rhs.append(S.ravel())
    c = np.linalg.lstsq(np.vstack(rows), np.concatenate(rhs), rcond=1e-10)[0]
    n = len(invariants2)
    second = np.einsum("a,aijkl->ijkl", c[:n], np.array(invariants2))
    third = np.einsum("a,aijklpq->ijklpq", c[n:], np.array(invariants3))
    return StressMismatch(second, third)


@lru_cache(maxsize=8)
def invariant_tensors(host: Host) -> tuple[list[Array], list[Array]]:
    """Bases of the symmetric rank-4 and rank-6 tensors that the point group leaves alone (3 and 6 of them if cubic)."""
    unique = {tuple(np.round(g.rotation, 6).ravel()) for g in operations(host, (1, 1, 1))}
    rotations = [np.array(r).reshape(3, 3) for r in sorted(unique)]
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    out: list[list[Array]] = []
    for order in (2, 3):
        found: list[Array] = []
        for index in _multisets(6, order):
            strains = []
            for k in index:
                e = np.zeros((3, 3))
                e[pairs[k]] = e[pairs[k][::-1]] = 1.0
                strains.append(e)
            T = sum(_outer([R @ e @ R.T for e in _permuted(strains, p)]) for R in rotations for p in _orders(order))
            T = np.asarray(T) / len(rotations)
            trial = [*found, T]
            if np.linalg.matrix_rank(np.array([t.ravel() for t in trial]), tol=1e-8) == len(trial):
                found.append(T / np.abs(T).max())
        out.append(found)
    return out[0], out[1]


def _multisets(n: int, order: int) -> list[tuple[int, ...]]:
    from itertools import combinations_with_replacement

    return list(combinations_with_replacement(range(n), order))


def _orders(order: int) -> list[tuple[int, ...]]:
    from itertools import permutations

    return list(permutations(range(order)))


def _permuted(items: list[Array], order: tuple[int, ...]) -> list[Array]:
    return [items[k] for k in order]


def _outer(factors: list[Array]) -> Array:
    out = factors[0]
    for f in factors[1:]:
        out = np.multiply.outer(out, f)
    return out


def quadratic_force(mismatch: StressMismatch, target: DefectCell, u: Array, outside: NDArray[np.bool_]) -> Array:
    """Force (N, 3) eV/Å on the target's atoms of the stress beyond linear order at the sites `outside` (N,).

    The gradient at a site is the least-squares fit over its stencil bonds; the force is its transpose on the stress.
    """
    i, j = target.bonds
    rho = minimum_image(target.x0[j] - target.x0[i], target.cell)
    n = target.natoms
    moment = np.zeros((n, 3, 3))
    np.add.at(moment, i, rho[:, :, None] * rho[:, None, :])
    use = outside & (np.linalg.det(moment) > 1e-6)
    inverse = np.zeros_like(moment)
    inverse[use] = np.linalg.inv(moment[use])
    g = np.einsum("mab,mb->ma", inverse[i], rho)
    gradient = np.zeros((n, 3, 3))
    np.add.at(gradient, i, (u[j] - u[i])[:, :, None] * g[:, None, :])
    P = np.zeros((n, 3, 3))
    P[use] = mismatch.beyond_linear(gradient[use])
    pull = np.einsum("mab,mb->ma", P[i], g)
    force = np.zeros((n, 3))
    np.add.at(force, i, pull)
    np.add.at(force, j, -pull)
    return force
