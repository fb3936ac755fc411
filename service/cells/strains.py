"""Strained conventional cells for the virial mismatch (theory.md section 3, decisions C3)."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

__all__ = ["strain_pairs", "strained"]

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
