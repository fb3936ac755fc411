"""Homogeneous force-constant operators on a periodic lattice, by FFT (theory.md sections 1 and 3).

Force constants C (n1, n2, n3, n_b, 3, n_b, 3) hold d2E / du(x, b, a) du(0, b0, a0) in eV/Å^2. Their Fourier symbol H_k
is (3 n_b x 3 n_b) and Hermitian. Multilattices and several species need nothing more than their n_b sites.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import Host, Size, half_width

__all__ = ["LatticeOperator", "dual_force_norm", "dual_norm", "interpolate", "nearest_distances", "outer_shell"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


class LatticeOperator:
    """The operator C on the sites of a supercell of its own size.

    Parameters: host, size (n1, n2, n3), C as above. Symmetrised to H_k = (H_k + H_k^*) / 2.
    """

    def __init__(self, host: Host, size: Size, constants: Array) -> None:
        self.host, self.size, self.constants = host, size, constants
        m = 3 * host.nb
        symbol = np.fft.fftn(constants.reshape(*size, m, m), axes=(0, 1, 2))
        self.symbol: Complex = 0.5 * (symbol + np.conj(np.swapaxes(symbol, -1, -2)))

    @cached_property
    def _eigen(self) -> tuple[Array, Complex]:
        w, v = np.linalg.eigh(self.symbol)
        return w, v

    @cached_property
    def minimum(self) -> float:
        """Smallest eigenvalue of H_k over all k, translations at k = 0 left out, eV/Å^2."""
        w = self._eigen[0].copy()
        flat = np.sort(np.abs(w[0, 0, 0]))[:3]
        optical = w[0, 0, 0][np.abs(w[0, 0, 0]) > flat.max()]
        rest = w.reshape(-1, w.shape[-1])[1:].ravel()
        return float(min([*optical, *rest]))

    @cached_property
    def _green(self) -> Complex:
        """Pseudo-inverse of the symbol with |eigenvalues|, so that it can precondition an unstable surrogate."""
        w, v = self._eigen
        inverse = np.abs(w)
        floor = 1e-6 * inverse.max()
        inverse = np.where(inverse > floor, 1 / np.maximum(inverse, floor), 0.0)
        translations = np.argsort(np.abs(w[0, 0, 0]))[:3]
        inverse[0, 0, 0, translations] = 0.0
        return np.asarray((v * inverse[..., None, :]) @ np.conj(np.swapaxes(v, -1, -2)))

    def _multiply(self, symbol: Complex, U: Array) -> Array:
        m = 3 * self.host.nb
        f = np.fft.fftn(U.reshape(*self.size, m, -1), axes=(0, 1, 2))
        return np.ascontiguousarray(np.fft.ifftn(symbol @ f, axes=(0, 1, 2)).real).reshape(U.shape)

    def apply(self, U: Array) -> Array:
        """H U in eV/Å for site displacements U (N_sites, 3) or (N_sites, 3, K) in Å."""
        return self._multiply(self.symbol, U)

    def solve(self, R: Array) -> Array:
        """H^-1 R in Å for forces R (N_sites, 3) or (N_sites, 3, K) in eV/Å, the mean removed (no translation)."""
        return self._multiply(self._green, R)

    def energy(self, U: Array) -> float:
        """<H U, U>, eV (without the 1/2)."""
        return float((U * self.apply(U)).sum())

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Smallest eigenvalue and largest |eigenvalue| of (D^T D)_k^{-1/2} H_k (D^T D)_k^{-1/2}, eV/Å^2.

        The first is gamma_hom (theory.md section 3), the second the (D, D*) norm of T1. Translations are left out.
        To 12 digits: the last bits of a small matrix product hang on where its operands lie in memory.
        """
        S = _stencil_root(self.host, self.size)
        M = S @ self.symbol @ S
        w = np.linalg.eigvalsh(0.5 * (M + np.conj(np.swapaxes(M, -1, -2)))).reshape(-1, 3 * self.host.nb)
        zero = np.sort(np.abs(w[0]))[2]
        kept = np.concatenate([w[0][np.abs(w[0]) > max(zero, 1e-12)], w[1:].ravel()])
        return float(f"{kept.min():.12g}"), float(f"{np.abs(kept).max():.12g}")

    @property
    def gamma(self) -> float:
        """gamma_hom, eV/Å^2."""
        return self.extremes[0]


def dual_norm(operator: LatticeOperator) -> float:
    """||H||_{(D, D*)} = max_k ||(D^T D)_k^{-1/2} H_k (D^T D)_k^{-1/2}||, eV/Å^2 (T1)."""
    return operator.extremes[1]


def dual_force_norm(host: Host, size: Size, R: Array) -> float:
    """||R||_{-1} = <R, (D^T D)^-1 R>^{1/2} for site forces R (N_sites, 3), eV/Å."""
    m = 3 * host.nb
    f = np.fft.fftn(R.reshape(*size, m, 1), axes=(0, 1, 2))
    g = np.fft.ifftn(_stencil_root(host, size) @ f, axes=(0, 1, 2)).real
    return float(np.linalg.norm(g))


@lru_cache(maxsize=8)
def _stencil_root(host: Host, size: Size) -> Complex:
    """(D^T D)_k^{-1/2} (x) 1_3 as (n1, n2, n3, 3 n_b, 3 n_b), zero on translations."""
    i, j, _ = host.bonds(size)
    nb = host.nb
    K = np.zeros((size[0] * size[1] * size[2] * nb, nb))
    for b in range(nb):
        at = i == b
        np.add.at(K[:, b], j[at], -2.0)
        K[b, b] += 2.0 * at.sum()
    symbol = np.fft.fftn(K.reshape(*size, nb, nb), axes=(0, 1, 2))
    symbol = 0.5 * (symbol + np.conj(np.swapaxes(symbol, -1, -2)))
    w, v = np.linalg.eigh(symbol)
    root = np.where(w > 1e-8, 1 / np.sqrt(np.maximum(w, 1e-8)), 0.0)
    S = (v * root[..., None, :]) @ np.conj(np.swapaxes(v, -1, -2))
    return np.asarray(np.einsum("...ij,ab->...iajb", S, np.eye(3)).reshape(*size, 3 * nb, 3 * nb))


def _nearest_images(host: Host, size: Size) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """For each (site i, basis site b0): distance in Å, the cell offsets of 27 images, and which of them are nearest."""
    f = host.site_fractions(size)[:, None, :] - host.basis[None]
    shifts = np.array(list(product((-1, 0, 1), repeat=3))) * np.array(size)
    d = np.linalg.norm((f[:, :, None, :] + shifts) @ host.cell, axis=-1)
    nearest = d <= d.min(axis=2, keepdims=True) + 1e-4
    return d.min(axis=2), shifts, nearest


def nearest_distances(host: Host, size: Size) -> Array:
    """Minimum-image distance in Å of every site i from every site b0 of the origin cell (N_sites, n_b)."""
    return _nearest_images(host, size)[0]


def interpolate(host: Host, constants: Array, size: Size, target: Size) -> Array:
    """Fourier interpolation of (mismatch) force constants from supercell `size` to the grid `target`.

    Each pair goes to its nearest images with equal weights, and is folded where `target` is smaller; so the result
    equals the input at the wave vectors the two grids share (decisions C4; theory.md section 7, 11). Sum rule kept.
    """
    _, shifts, nearest = _nearest_images(host, size)
    nb = host.nb
    C = constants.reshape(-1, 3, nb, 3)
    out = np.zeros((target[0], target[1], target[2], nb, 3, nb, 3))
    cells = np.stack(np.unravel_index(np.arange(len(C)) // nb, size), axis=1)
    basis = np.arange(len(C)) % nb
    weight = 1.0 / nearest.sum(axis=2)
    for s, shift in enumerate(shifts):
        rows, b0 = np.nonzero(nearest[:, :, s])
        x = (cells[rows] + shift) % np.array(target)
        values = weight[rows, b0][:, None, None] * C[rows, :, b0]
        for r in range(len(rows)):
            out[x[r, 0], x[r, 1], x[r, 2], basis[rows[r]], :, b0[r]] += values[r]
    return out


def outer_shell(host: Host, constants: Array, size: Size) -> Array:
    """`constants` with every pair within the half width L set to zero: what is left is what folding may have mixed.

    Measured on Cu (EMT), its (D, D*) norm is 4 times the true folding error of a 2x2x2 or 3x3x3 cell.
    """
    d, _, _ = _nearest_images(host, size)
    out = constants.reshape(-1, 3, host.nb, 3).copy()
    inner = d <= half_width(host, size) + 1e-3
    rows, b0 = np.nonzero(inner)
    out[rows, :, b0] = 0.0
    return out.reshape(constants.shape)
