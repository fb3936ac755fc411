"""Phonons of the host from real-space force constants of a supercell, for a picture.

The dynamical matrix of the primitive cell at wave vector q is

    D(q)[k a, k' b] = (m_k m_k')^{-1/2} sum_{i in sublattice k} w_i C[i a, j b] exp(-i q (x_i - x_j)),    j in k',

over the nearest images of every site i of the supercell (weights w_i share ties). It is exact at the wave vectors
that are commensurate with the supercell and a Fourier interpolation between them. Masses are ASE's. The long-range
field of polar crystals (LO-TO splitting) is not added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from farfield.service.cells import Host, Size
from farfield.service.cells.symmetry import operations

__all__ = ["PATHS", "TERAHERTZ", "Path", "band_path", "commensurate", "frequencies", "sublattices"]

Array = NDArray[np.float64]
Point = tuple[float, float, float]

TERAHERTZ = units.s * 1e-12 / (2 * np.pi)
"""sqrt(eV / (Å^2 amu)) in THz (frequency, not angular): 15.633."""

_FCC: tuple[tuple[tuple[str, Point], ...], ...] = (
    (("Γ", (0, 0, 0)), ("X", (1, 0, 0))),
    (("X", (1, 1, 0)), ("K", (0.75, 0.75, 0)), ("Γ", (0, 0, 0)), ("L", (0.5, 0.5, 0.5))),
)
PATHS: dict[str, tuple[tuple[tuple[str, Point], ...], ...]] = {
    "fcc": _FCC,
    "diamond": _FCC,
    "zincblende": _FCC,
    "rocksalt": _FCC,
    "bcc": (
        (
            ("Γ", (0, 0, 0)),
            ("H", (1, 0, 0)),
            ("P", (0.5, 0.5, 0.5)),
            ("Γ", (0, 0, 0)),
            ("N", (0.5, 0.5, 0)),
        ),
    ),
    "b2": (
        (
            ("Γ", (0, 0, 0)),
            ("X", (0.5, 0, 0)),
            ("M", (0.5, 0.5, 0)),
            ("Γ", (0, 0, 0)),
            ("R", (0.5, 0.5, 0.5)),
        ),
    ),
}
"""Standard paths by lattice type: unbroken pieces of (label, q in units of 2 pi / a). (1,1,0) of fcc is an X point."""
_AXES: tuple[tuple[tuple[str, Point], ...], ...] = (
    (("a*/2", (0.5, 0, 0)), ("Γ", (0, 0, 0)), ("b*/2", (0, 0.5, 0))),
    (("b*/2", (0, 0.5, 0)), ("Γ", (0, 0, 0)), ("c*/2", (0, 0, 0.5))),
)
"""Half the reciprocal vectors of the conventional cell, for hosts without a path of their own."""


@dataclass(frozen=True)
class Path:
    """A path through the Brillouin zone: `q` (M, 3) in units of 2 pi / a, `x` (M,) its length so far in the same units,
    `ticks` (label, x) at the corners."""

    q: Array
    x: Array
    ticks: tuple[tuple[str, float], ...]


def band_path(lattice: str, divisions: int = 60) -> Path:
    """The standard path of a lattice type (of any other, its axes) with `divisions` steps from corner to corner."""
    q: list[Array] = []
    x: list[Array] = []
    ticks: list[tuple[str, float]] = []
    at = 0.0
    for piece in PATHS.get(lattice, _AXES):
        if not ticks or ticks[-1][0] != piece[0][0]:
            ticks.append((piece[0][0], at))
        for (_, start), (label, end) in pairwise(piece):
            a, b = np.array(start, float), np.array(end, float)
            length = float(np.linalg.norm(b - a))
            s = np.linspace(0, 1, divisions + 1)
            q.append(a + s[:, None] * (b - a))
            x.append(at + s * length)
            at += length
            ticks.append((label, at))
    return Path(np.vstack(q), np.concatenate(x), tuple(ticks))


def commensurate(lattice: str, size: Size) -> Path:
    """The points of the standard path whose waves fit the supercell `size` of conventional cells (no ticks)."""
    fine = band_path(lattice, divisions=72 * int(np.lcm.reduce(size)))
    f = fine.q * np.array(size)
    fits = np.abs(f - np.rint(f)).max(axis=1) < 1e-6
    return Path(fine.q[fits], fine.x[fits], ())


def sublattices(host: Host) -> list[list[int]]:
    """The basis sites of the conventional cell sorted by the primitive cell's sites: orbits of pure translations."""
    shifts = [g.image for g in operations(host, (1, 1, 1)) if np.allclose(g.rotation, np.eye(3), atol=1e-8)]
    out: list[list[int]] = []
    for b in range(host.nb):
        if not any(b in orbit for orbit in out):
            out.append(sorted({int(image[b]) for image in shifts}))
    return out


def frequencies(host: Host, constants: Array, size: Size, q: Array, *, masses: Sequence[float] | None = None) -> Array:
    """Frequencies (M, 3 n) in THz, ascending, at wave vectors `q` (M, 3) in reciprocal vectors of the
    conventional cell (2 pi / a of a cubic one); imaginary as negative.

    `constants` C (n1, n2, n3, n_b, 3, n_b, 3) in eV/Å^2 of the perfect supercell `size`, as `ForceConstantCell`
    assembles them; n is the number of sites of the primitive cell; `masses` (n_b,) in amu, ASE's by default.
    """
    groups = sublattices(host)
    kind = np.empty(host.nb, int)
    for k, group in enumerate(groups):
        kind[group] = k
    m = np.array(masses if masses is not None else [atomic_masses[atomic_numbers[s]] for s in host.symbols], float)
    fractions = host.site_fractions(size)
    shifts = np.array(list(product((-1, 0, 1), repeat=3))) * np.array(size)
    C = constants.reshape(-1, 3, host.nb, 3)
    n = len(groups)
    D = np.zeros((len(q), n, 3, n, 3), complex)
    for k0, group in enumerate(groups):
        j = group[0]
        images = fractions[:, None] - host.basis[j] + shifts  # (N, 27, 3), conventional cells
        d = np.linalg.norm(images @ host.cell, axis=-1)
        nearest = d <= d.min(axis=1, keepdims=True) + 1e-4
        i, s = np.nonzero(nearest)
        # Reciprocal and direct vectors of the conventional cell cancel.
        phase = np.exp(-2j * np.pi * (np.asarray(q) @ images[i, s].T)) / nearest.sum(axis=1)[i]
        for k in range(n):
            mine = kind[i % host.nb] == k
            block = np.einsum("qp,pab->qab", phase[:, mine], C[i[mine], :, j])
            D[:, k, :, k0, :] = block / np.sqrt(m[groups[k][0]] * m[j])
    flat = D.reshape(len(q), 3 * n, 3 * n)
    w = np.linalg.eigvalsh(0.5 * (flat + np.conj(np.swapaxes(flat, -1, -2))))
    return np.asarray(np.sign(w) * np.sqrt(np.abs(w)) * TERAHERTZ)
