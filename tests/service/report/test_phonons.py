"""Phonons of crystals whose frequencies are known in closed form, and laws that hold for any crystal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from farfield.service.cells import LATTICES, ForceConstantCell, Host
from farfield.service.report.phonons import TERAHERTZ, band_path, commensurate, frequencies, sublattices

Array = NDArray[np.float64]
SPRING = 2.0
"""eV/Å^2"""
SIZE = (3, 3, 3)


def springs(host: Host) -> Array:
    """Force constants of central springs between nearest neighbours."""
    i, j, shift = host.bonds(SIZE)
    x = host.positions(SIZE)
    d = x[j] + shift - x[i]
    length = np.linalg.norm(d, axis=1)
    near = length < 1.01 * host.nearest
    i, j, n = i[near], j[near], d[near] / length[near, None]

    def forces(positions: Array) -> Array:
        u = positions - x
        out = np.zeros_like(u)
        np.add.at(out, i, SPRING * ((u[j] - u[i]) * n).sum(axis=1)[:, None] * n)
        return out

    return ForceConstantCell(host, SIZE).from_forces(lambda atoms: forces(atoms.positions), 0.01)


def emt(host: Host, size: tuple[int, int, int]) -> Callable[[Array], Array]:
    atoms = host.atoms(size)
    atoms.calc = EMT()

    def forces(positions: Array) -> Array:
        atoms.positions[:] = positions
        return np.asarray(atoms.get_forces())

    return forces


def mass(symbol: str) -> float:
    return float(atomic_masses[atomic_numbers[symbol]])


def test_unit_is_that_of_a_spring_of_one_ev_per_square_angstrom() -> None:
    newton_per_metre, kilogram = 16.02176634, 1.66053906892e-27
    assert pytest.approx(np.sqrt(newton_per_metre / kilogram) / (2 * np.pi) * 1e-12, rel=1e-6) == TERAHERTZ


def test_fcc_springs_are_monatomic_chains_along_a_cube_edge() -> None:
    host = Host.named("fcc", ["Cu"], 3.6)
    zeta = np.linspace(0, 1, 7)
    w = frequencies(host, springs(host), SIZE, np.outer(zeta, [1, 0, 0]))
    chain = np.sin(np.pi * zeta / 2) * TERAHERTZ / np.sqrt(mass("Cu"))
    assert w[:, 2] == pytest.approx(np.sqrt(8 * SPRING) * chain, abs=1e-4)
    assert w[:, 0] == pytest.approx(np.sqrt(4 * SPRING) * chain, abs=1e-4)
    assert w[:, 1] == pytest.approx(w[:, 0], abs=1e-4)


def test_bcc_springs_at_the_zone_corner() -> None:
    host = Host.named("bcc", ["W"], 3.16)
    w = frequencies(host, springs(host), SIZE, np.array([[1.0, 0, 0]]))
    assert w[0] == pytest.approx(np.sqrt(16 / 3 * SPRING / mass("W")) * TERAHERTZ, rel=1e-6)


def test_rocksalt_springs_are_diatomic_chains() -> None:
    host = Host.named("rocksalt", ["Mg", "O"], 4.2)
    zeta = np.array([0.0, 1 / 3, 2 / 3, 1.0])
    w = frequencies(host, springs(host), SIZE, np.outer(zeta, [1, 0, 0]))
    a, b = 1 / mass("Mg"), 1 / mass("O")
    root = np.sqrt((a + b) ** 2 - 4 * a * b * np.sin(np.pi * zeta) ** 2)  # of period a
    optical = np.sqrt(SPRING * (a + b + root)) * TERAHERTZ
    acoustic = np.sqrt(SPRING * np.maximum(a + b - root, 0)) * TERAHERTZ
    for k in range(len(zeta)):
        for expected in (optical[k], acoustic[k]):
            assert np.abs(w[k] - expected).min() < 1e-3, (zeta[k], expected, w[k])


def test_springs_of_compounds_and_multilattices_have_zero_acoustic_modes_at_gamma() -> None:
    for lattice, species in (("diamond", ["Si"]), ("rocksalt", ["Mg", "O"]), ("b2", ["Ni", "Al"])):
        host = Host.named(lattice, species, 4.0)
        w = frequencies(host, springs(host), SIZE, np.zeros((1, 3)))[0]
        assert w.shape == (6,)
        assert np.sort(np.abs(w))[:3] == pytest.approx(0, abs=2e-3)
        assert w[3:] == pytest.approx(w[-1], rel=1e-3)  # one optical triplet, by cubic symmetry


@pytest.fixture(scope="module")
def copper() -> tuple[Host, Array]:
    host = Host.named("fcc", ["Cu"], 3.59)
    return host, ForceConstantCell(host, (2, 2, 2)).from_forces(
        lambda atoms: emt(host, (2, 2, 2))(atoms.positions), 0.01
    )


def test_fitting_wave_vectors_hold_all_modes_of_the_supercell(copper: tuple[Host, Array]) -> None:
    host, constants = copper
    n = np.arange(4) / 2
    q = np.stack(np.meshgrid(n, n, n, indexing="ij"), axis=-1).reshape(-1, 3)  # every wave vector twice
    bands = np.sort(frequencies(host, constants, (2, 2, 2), q).ravel())
    C = constants.reshape(32, 3, 4, 3)
    grid = np.stack(np.unravel_index(np.arange(32) // 4, (2, 2, 2)), axis=1)
    hessian = np.empty((32, 3, 32, 3))
    for j in range(32):
        cell = (grid - grid[j]) % 2
        i = ((cell[:, 0] * 2 + cell[:, 1]) * 2 + cell[:, 2]) * 4 + np.arange(32) % 4
        hessian[:, :, j] = C[i, :, j % 4]
    w = np.linalg.eigvalsh((hessian.reshape(96, 96) + hessian.reshape(96, 96).T) / 2)
    modes = np.sign(w) * np.sqrt(np.abs(w) / mass("Cu")) * TERAHERTZ
    assert bands == pytest.approx(np.sort(np.repeat(modes, 2)), abs=2e-3)


def test_frequencies_are_periodic_and_symmetric_in_reciprocal_space(copper: tuple[Host, Array]) -> None:
    host, constants = copper
    q = np.array([[0.31, 0.12, 0.07]])
    same = [q + np.ones(3), q + 2 * np.eye(3)[:1], -q, q[:, [1, 2, 0]], q * [1, -1, 1]]
    w = frequencies(host, constants, (2, 2, 2), q)
    for other in same:
        assert frequencies(host, constants, (2, 2, 2), other) == pytest.approx(w, abs=1e-6)
    assert frequencies(host, constants, (2, 2, 2), q + np.eye(3)[:1]) != pytest.approx(w, abs=1e-2)


def test_heavier_atoms_vibrate_more_slowly(copper: tuple[Host, Array]) -> None:
    host, constants = copper
    q = band_path("fcc", 5).q
    m = np.full(4, mass("Cu"))
    light, heavy = (frequencies(host, constants, (2, 2, 2), q, masses=list(f * m)) for f in (1, 4))
    assert heavy == pytest.approx(light / 2, abs=1e-6)


@pytest.mark.parametrize(("lattice", "sites"), [("fcc", 1), ("bcc", 1), ("diamond", 2), ("rocksalt", 2), ("b2", 2)])
def test_sublattices_are_the_primitive_cell(lattice: str, sites: int) -> None:
    species = ["Ni", "Al"][: 1 + max(LATTICES[lattice].species)]
    groups = sublattices(Host.named(lattice, species, 4.0))
    assert len(groups) == sites
    assert sorted(b for g in groups for b in g) == list(range(len(LATTICES[lattice].basis)))


@pytest.mark.parametrize("lattice", sorted(LATTICES))
def test_path_is_continuous_up_to_reciprocal_vectors_and_marks_fitting_points(lattice: str) -> None:
    path = band_path(lattice)
    assert (np.diff(path.x) >= 0).all()
    assert path.ticks[0] == ("Γ", 0.0)
    assert path.ticks[-1][1] == pytest.approx(path.x[-1])
    points = commensurate(lattice, (3, 3, 3))
    assert len(points.q) >= 5
    assert np.abs(3 * points.q - np.rint(3 * points.q)).max() < 1e-9
