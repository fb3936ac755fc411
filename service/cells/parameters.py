"""The free parameters of a perfect crystal: what its symmetry leaves open of the cell and of the sites.

One for a cubic crystal (its size), two for hcp (size and c/a), three for wurtzite (and the shift u of its sublattices).
They are found with the oracle before anything else is bought (decisions C3; theory.md section 1, A3: u = 0 must be an
equilibrium of the homogeneous lattice).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import spglib
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.host import Host
from farfield.service.cells.symmetry import operations

__all__ = ["Parameter", "free_parameters"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """A deformation that keeps the space group: `strain` (3, 3) of norm one, or `shifts` (n_b, 3); the other is zero.

    `shifts` are scaled so that the largest is 1 Å. `name`: size, shape or sites.
    """

    name: str
    strain: tuple[tuple[float, ...], ...]
    shifts: tuple[tuple[float, ...], ...]

    def deform(self, host: Host, amplitude: float) -> Host:
        """The host moved along this parameter by `amplitude` (strain, or Å)."""
        if self.name == "size":
            return host.with_constant(host.a * (1 + amplitude))
        return host.deformed(amplitude * np.array(self.strain), amplitude * np.array(self.shifts))


@lru_cache(maxsize=16)
def free_parameters(host: Host) -> tuple[Parameter, ...]:
    """The size first, then the shapes of the cell, then the shifts of the sites.

    The symmetry is that of the primitive cell: a conventional one, as the orthohexagonal, may hide some of it.
    """
    primitive, sublattice = _primitive(host)
    group = operations(primitive, (1, 1, 1))
    nothing = tuple((0.0, 0.0, 0.0) for _ in range(host.nb))
    still = tuple((0.0, 0.0, 0.0) for _ in range(3))
    out = [Parameter("size", _rows(np.eye(3)), nothing)]
    mean = np.zeros((9, 9))
    for g in group:
        mean += np.kron(g.rotation, g.rotation)
    swap = np.eye(9).reshape(3, 3, 9).transpose(1, 0, 2).reshape(9, 9)
    symmetric = (np.eye(9) + swap) / 2
    traceless = np.eye(9) - np.outer(np.eye(3).ravel(), np.eye(3).ravel()) / 3
    for v in _fixed(traceless @ symmetric @ (mean / len(group)) @ symmetric @ traceless):
        out.append(Parameter("shape", _rows(v.reshape(3, 3)), nothing))
    n = 3 * primitive.nb
    field = np.zeros((n, n))
    for g in group:
        for b in range(primitive.nb):
            field[3 * g.image[b] : 3 * g.image[b] + 3, 3 * b : 3 * b + 3] += g.rotation
    drift = np.eye(n) - np.kron(np.ones((primitive.nb, primitive.nb)) / primitive.nb, np.eye(3))
    for v in _fixed(drift @ (field / len(group)) @ drift):
        shifts = v.reshape(-1, 3)
        out.append(Parameter("sites", still, _rows(shifts[sublattice] / np.linalg.norm(shifts, axis=1).max())))
    return tuple(out)


def _primitive(host: Host) -> tuple[Host, NDArray[np.int64]]:
    """The host in its primitive cell, turned as it is, and which of its sites each site of the host repeats."""
    numbers = [host.species.index(s) + 1 for s in host.symbols]
    found = spglib.standardize_cell(
        (host.cell.tolist(), host.basis.tolist(), numbers), to_primitive=True, no_idealize=True, symprec=1e-5
    )
    if found is None:
        raise CrystalError("spglib finds no symmetry in the host; check its basis")
    cell, sites, kinds = (np.asarray(x) for x in found)
    small = Host.of_cell(host.lattice, tuple(host.species[k - 1] for k in kinds), cell, sites)
    f = (host.basis @ host.cell) @ np.linalg.inv(cell)
    away = f[:, None, :] - small.basis[None]
    away -= np.rint(away)
    distance = np.linalg.norm(away @ cell, axis=2)
    distance[np.array(host.symbols)[:, None] != np.array(small.symbols)[None]] = np.inf
    if distance.min(axis=1).max() > 1e-3:
        raise CrystalError("the host's primitive cell does not repeat its sites; check its basis")
    return small, np.asarray(distance.argmin(axis=1), np.int64)


def _fixed(projector: Array) -> list[Array]:
    """An orthonormal basis of what the projector leaves alone, with a fixed sign."""
    w, v = np.linalg.eigh((projector + projector.T) / 2)
    found = [v[:, k] for k in np.flatnonzero(w > 0.99)]
    return [x * np.sign(x[np.abs(x).argmax()]) for x in found]


def _rows(values: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(x) for x in row) for row in np.round(values, 10))
