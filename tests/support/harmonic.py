"""Harmonic crystals whose H - H^h is known: two Morse crystals, kept to second order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import DefectCell, ForceConstantCell, Host, Size
from farfield.service.estimates import LatticeOperator, interpolate

Array = NDArray[np.float64]

HOST = Host.named("fcc", ["Cu"], 3.6)
FC_SIZE: Size = (4, 4, 4)
"""Larger than twice the Morse range, so that nothing is folded."""


def constants(potential, host: Host = HOST, size: Size = FC_SIZE) -> Array:  # type: ignore[no-untyped-def]
    atoms = host.atoms(size)

    def forces(x: Array) -> Array:
        atoms.positions[:] = x
        return potential(atoms)[1]

    C = ForceConstantCell(host, size).from_forces(lambda atoms: forces(atoms.positions), 0.01)
    # differences leave an asymmetry of h^2; a harmonic crystal has none
    return np.fft.ifftn(LatticeOperator(host, size, C).symbol, axes=(0, 1, 2)).real.reshape(C.shape)


@dataclass(frozen=True)
class Harmonic:
    """E(u) = 1/2 <C U, U> with U = u on the host's sites, zero where an atom is missing."""

    constants: Array

    def operator(self, size: Size) -> LatticeOperator:
        return LatticeOperator(HOST, size, interpolate(HOST, self.constants, FC_SIZE, size))

    def energy(self, cell: DefectCell, u: Array) -> float:
        return 0.5 * self.operator(cell.size).energy(cell.on_sites(u))

    def forces(self, cell: DefectCell, u: Array) -> Array:
        return -cell.from_sites(self.operator(cell.size).apply(cell.on_sites(u)))


def dense(operator: LatticeOperator) -> Array:
    """The operator as a matrix (3N, 3N), column by column from its constants alone."""
    size, host = operator.size, operator.host
    nb = host.nb
    n = size[0] * size[1] * size[2] * nb
    out = np.zeros((n, 3, n, 3))
    for site in range(n):
        x, y, z = np.unravel_index(site // nb, size)
        moved = np.roll(operator.constants, (x, y, z), axis=(0, 1, 2))
        out[:, :, site, :] = moved.reshape(n, 3, nb, 3)[:, :, site % nb, :]
    return out.reshape(3 * n, 3 * n)


def mismatch(oracle: Harmonic, model: Harmonic, size: Size) -> LatticeOperator:
    """M = H - H^h on a grid."""
    return LatticeOperator(HOST, size, oracle.operator(size).constants - model.operator(size).constants)
