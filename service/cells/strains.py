"""Strained conventional cells for the virial mismatch (theory.md section 3, decisions C3).

A crystal of more than one site per primitive cell answers a strain with shifts p of its sublattices, so its
Cauchy-Born energy is W(F, p): its strained cells have internal forces, and some of them carry random shifts.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.service.cells.host import Host
from farfield.service.cells.symmetry import operations

__all__ = ["random_shifts", "shift_scale", "strain_pairs", "strained", "sublattices"]

Array = NDArray[np.float64]


def strained(atoms: Atoms, strain: Array) -> Atoms:
    """A copy of `atoms` with cell and positions mapped by (1 + strain); `strain` (3, 3) symmetric."""
    out: Atoms = atoms.copy()
    out.set_cell(atoms.cell.array @ (np.eye(3) + np.asarray(strain)), scale_atoms=True)
    return out


def strain_pairs(amplitude: float, count: int, rng: np.random.Generator) -> list[Array]:
    """`count` random symmetric strains (3, 3) of Frobenius norm `amplitude`; each stands for the pair +e, -e."""
    out: list[Array] = []
    for _ in range(count):
        e = rng.normal(size=(3, 3))
        e = (e + e.T) / 2
        out.append(np.asarray(np.round(e * amplitude / np.linalg.norm(e), 10), np.float64))
    return out


@lru_cache(maxsize=8)
def sublattices(host: Host) -> tuple[int, ...]:
    """The sublattice of each site of the conventional cell, numbered from 0: sites that lattice translations join."""
    label = [-1] * host.nb
    translations = [g.image for g in operations(host, (1, 1, 1)) if np.allclose(g.rotation, np.eye(3), atol=1e-8)]
    for b in range(host.nb):
        if label[b] < 0:
            new = max(label) + 1
            for image in translations:
                label[int(image[b])] = new
    return tuple(label)


def random_shifts(host: Host, amplitude: float, rng: np.random.Generator) -> Array:
    """Shifts (n_b, 3) in Å that move each sublattice as a whole, without a mean.

    The largest shift of one sublattice against another is `amplitude`.
    """
    label = np.array(sublattices(host))
    count = int(label.max()) + 1
    own = rng.normal(size=(count, 3))
    between = np.linalg.norm(own[:, None] - own[None], axis=-1).max()
    shifts = own[label] * (amplitude / between if between > 0 else 0.0)
    return np.asarray(np.round(shifts - shifts.mean(axis=0), 10), np.float64)


@lru_cache(maxsize=8)
def shift_scale(host: Host) -> float:
    """Factor in Å on the forces of a strained conventional cell, where its virial has the factor 1 / n_b.

    It makes |(V, F)| the dual norm of ||Du||^2 per site, up to one constant: s2 |grad u|^2 + <q, K q> / n_b for a
    strain and displacements q of the sites, K the graph of the stencil's bonds. So forces weigh sqrt(s2 / (n_b k)) with
    k the smallest eigenvalue of K on shifts of sublattices (the only one, where there are two). 0 for one sublattice.
    """
    label = np.array(sublattices(host))
    count = int(label.max()) + 1
    if count == 1:
        return 0.0
    i, j, _ = host.bonds((1, 1, 1))
    K = np.zeros((host.nb, host.nb))
    np.add.at(K, (i, i), 1.0)
    np.add.at(K, (j, j), 1.0)
    np.add.at(K, (i, j), -1.0)
    np.add.at(K, (j, i), -1.0)
    modes = (label[:, None] == np.arange(count)) / np.sqrt(np.bincount(label))
    k = np.linalg.eigvalsh(modes.T @ K @ modes)[1]
    return float(np.sqrt(host.s2 / (host.nb * k)))
