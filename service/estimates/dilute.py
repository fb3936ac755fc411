"""From the target cell to the dilute limit: elastic dipole, relaxation volume, image correction (decisions C13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.observation import VOIGT
from farfield.service.cells import DefectCell, Host
from farfield.service.cells.images import minimum_image
from farfield.service.estimates.anharmonic import invariant_tensors
from farfield.service.estimates.lattice import LatticeOperator, interpolate
from farfield.service.estimates.virial import full

__all__ = ["Dilute", "dilute_limit", "elastic_constants", "image_correction"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Dilute:
    """`dipole` P_ij = V_defect - n_cells V_host in eV (6,) Voigt; `relaxation_volume` in Å^3 (at zero stress);
    `image` in eV, to be added to E_f of the target cell; `elastic` C_ij in eV/Å^3 (6, 6), clamped ions.
    """

    dipole: Array
    relaxation_volume: float | None
    image: float
    elastic: Array


def elastic_constants(pairs: Sequence[tuple[Array, Array, Array]], volume: float, host: Host | None = None) -> Array:
    """C (6, 6) in eV/Å^3 at clamped ions, from strain pairs (strain (3, 3), V at +e (6,), V at -e (6,)) of a cell.

    Least squares on the odd part of the stress -V / volume: C11, C12, C44 of a cubic crystal in its axes, all that
    the point group of `host` leaves of any other.
    """
    if host is not None and not host.cubic:
        return _of_any_symmetry(pairs, volume, host)
    rows, rhs = [], []
    for e, plus, minus in pairs:
        stress = -(full(plus) - full(minus)) / (2 * volume)
        for k, (a, b) in enumerate(VOIGT):
            if k < 3:
                rows.append([e[a, a], np.trace(e) - e[a, a], 0.0])
            else:
                rows.append([0.0, 0.0, 2 * e[a, b]])
            rhs.append(stress[a, b])
    c11, c12, c44 = np.linalg.lstsq(np.array(rows), np.array(rhs), rcond=None)[0]
    C = np.zeros((6, 6))
    C[:3, :3] = c12
    C[range(3), range(3)] = c11
    C[range(3, 6), range(3, 6)] = c44
    return C


def _of_any_symmetry(pairs: Sequence[tuple[Array, Array, Array]], volume: float, host: Host) -> Array:
    basis = invariant_tensors(host)[0]
    rows, rhs = [], []
    for e, plus, minus in pairs:
        stress = -(full(plus) - full(minus)) / (2 * volume)
        rows.append(np.array([np.einsum("ijkl,kl->ij", t, e).ravel() for t in basis]).T)
        rhs.append(stress.ravel())
    c = np.linalg.lstsq(np.vstack(rows), np.concatenate(rhs), rcond=None)[0]
    tensor = np.einsum("a,aijkl->ijkl", c, np.array(basis))
    return np.array([[tensor[a, b, k, m] for k, m in VOIGT] for a, b in VOIGT])


def image_correction(dipole: Array, target: DefectCell, constants: Array) -> float:
    """Energy (eV) to add to a formation energy of the periodic target cell for its elastic images.

    The dipole's forces on the sites around the centre relax the harmonic lattice by -1/2 <f, G_n f> in a cell of size n
    at zero mean strain. The same on twice the size and extrapolation in 1/volume give the infinite crystal.
    `constants` are the surrogate's force constants on the target's grid.
    """
    host = target.host
    double = (2 * target.size[0], 2 * target.size[1], 2 * target.size[2])
    small = LatticeOperator(host, target.size, constants)
    large = LatticeOperator(host, double, interpolate(host, constants, target.size, double))
    energy = []
    for operator in (small, large):
        f = dipole_forces(dipole, host, operator.size, target.defect.centre(host))
        energy.append(-0.5 * float((f * operator.solve(f)).sum()))
    infinite = (8 * energy[1] - energy[0]) / 7
    return infinite - energy[0]


def dipole_forces(dipole: Array, host: Host, size: tuple[int, int, int], centre: Array) -> Array:
    """Forces (N_sites, 3) in eV/Å on the sites around `centre` (conventional-cell units) with sum f (x) r = P."""
    f = (host.site_fractions(size) - centre) / np.array(size)
    r = minimum_image((f * np.array(size)) @ host.cell, host.supercell_vectors(size))
    d = np.linalg.norm(r, axis=1)
    near = (d > 1e-6) & (d <= max(host.stencil, 1.01 * np.sort(d[d > 1e-6])[0]))
    moment = r[near].T @ r[near]
    out = np.zeros_like(r)
    out[near] = r[near] @ np.linalg.inv(moment) @ full(dipole)
    return np.asarray(out - out.mean(axis=0))


def dilute_limit(
    defect_virial: Array,
    host_virial: Array,
    cell: DefectCell,
    target: DefectCell,
    constants: Array,
    host_pairs: Sequence[tuple[Array, Array, Array]],
) -> Dilute:
    """Dipole from the verification call's virial (6,) and one host cell's (6,), both eV; see `Dilute`."""
    dipole = defect_virial - cell.n_cells * host_virial
    C = elastic_constants(host_pairs, cell.host.volume, cell.host)
    stable = bool(np.linalg.eigvalsh(C).min() > 0)
    relaxation = float(np.linalg.solve(C, dipole)[:3].sum()) if stable else None
    return Dilute(dipole, relaxation, image_correction(dipole, target, constants), C)


VirialOf = Callable[[Array], Array]


def virial_pairs(virial: VirialOf, strains: Sequence[Array]) -> list[tuple[Array, Array, Array]]:
    """(e, V(+e), V(-e)) for each strain of `virial(strain (3, 3)) -> (6,)`."""
    return [(e, virial(e), virial(-e)) for e in strains]
