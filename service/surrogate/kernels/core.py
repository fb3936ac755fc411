"""The fixed core: atoms repel at short distance, whatever the fit says there.

The universal screened Coulomb repulsion (Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids, 1985)
times a switch: with q = r / l, l = 0.46850 / (Za^0.23 + Zb^0.23) Å, and x = r / r_c,

    phi(r) = (e^2 / 4 pi eps0) Za Zb / r (sum_k a_k exp(-b_k q)) (1 - x)^3 (1 + 3 x + 6 x^2),

zero at and beyond r_c = `Basis.core` r0 of the pair, C2 there. It has no coefficients: rows are free of it, labels are
taken less the core before a fit, and a fitted surrogate adds it. The compiled kernels repeat this definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from farfield.oracles.observation import VOIGT
from farfield.service.surrogate.kernels.pairs import Pairs, neighbours

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.service.surrogate.basis import Basis

__all__ = ["core_labels", "core_parameters", "repulsion"]

Array = NDArray[np.float64]

SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""(a_k, b_k) of the universal screening function."""


def core_parameters(basis: Basis) -> tuple[Array, Array, Array]:
    """(r_c Å, Za Zb e^2 / 4 pi eps0 in eV Å, l Å), each (S, S) over the species of `basis`."""
    z = np.array([atomic_numbers[s] for s in basis.species], float)
    cut = basis.core * basis.distances
    strength = Hartree * Bohr * np.outer(z, z)
    length = 0.46850 / np.add.outer(z**0.23, z**0.23)
    return cut, strength, length


def repulsion(r: Array, cut: Array, strength: Array, length: Array) -> tuple[Array, Array]:
    """phi(r) in eV and dphi/dr in eV/Å for distances `r` (Å) and parameters of `core_parameters`, all of one shape."""
    x = np.minimum(r / cut, 1.0)
    terms = [a * np.exp(-b * r / length) for a, b in SCREENING]
    screen = sum(terms, np.zeros_like(r))
    slope = -sum((b * t for (_, b), t in zip(SCREENING, terms, strict=True)), np.zeros_like(r)) / length
    switch = (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)
    dswitch = -30 * x**2 * (1 - x) ** 2 / cut
    phi = strength / r * screen * switch
    return phi, strength / r * (slope * switch + screen * dswitch) - phi / r


def core_labels(basis: Basis, atoms: Atoms, pairs: Pairs | None = None) -> tuple[float, Array, Array]:
    """What the core adds to E (eV), F (N, 3) in eV/Å and V (6,) in eV of `atoms`; zeros where no pair is that close.

    Raises BasisError for atoms the basis cannot describe.
    """
    found = neighbours(basis, atoms) if pairs is None else pairs
    n = len(found.species)
    forces, virial = np.zeros((n, 3)), np.zeros(6)
    if basis.core == 0:
        return 0.0, forces, virial
    i = np.repeat(np.arange(n), np.diff(found.ptr))
    vectors = found.vectors
    r = np.sqrt((vectors**2).sum(axis=1))
    kinds = found.species[i], found.species[found.j]
    cut, strength, length = (table[kinds] for table in core_parameters(basis))
    close = r < cut
    if not close.any():
        return 0.0, forces, virial
    i, j, vectors, r = i[close], found.j[close], vectors[close], r[close]
    phi, slope = repulsion(r, cut[close], strength[close], length[close])
    g = (0.5 * slope / r)[:, None] * vectors  # each pair is met from both of its atoms
    np.add.at(forces, i, g)
    np.add.at(forces, j, -g)
    virial -= [float((g[:, a] * vectors[:, b]).sum()) for a, b in VOIGT]
    return 0.5 * float(phi.sum()), forces, virial
