from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import Bohr, Hartree

from farfield.errors import BasisError
from farfield.oracles.observation import VOIGT
from farfield.service.surrogate import Basis, Surrogate, core_labels
from farfield.service.surrogate.kernels.core import core_parameters, repulsion

PAIR = np.array(2.0), np.array(Hartree * Bohr * 29**2), np.array(0.46850 / (2 * 29**0.23))


def test_nuclei_repel_as_bare_charges_when_they_meet():
    r = np.array(1e-6)
    assert repulsion(r, *PAIR)[0] * r == pytest.approx(Hartree * Bohr * 29**2, rel=1e-4)


def test_screening_is_the_universal_one():
    """0.00741 + 0.19870 + 0.18729 + 0.02303 at one screening length, far inside the switch."""
    length = float(PAIR[2])
    phi, _ = repulsion(np.array(length), np.array(1e4), *PAIR[1:])
    assert phi * length / PAIR[1] == pytest.approx(0.41642, abs=2e-5)


def test_the_slope_is_the_derivative():
    r, h = np.linspace(0.3, 1.99, 40), 1e-6
    slope = (repulsion(r + h, *PAIR)[0] - repulsion(r - h, *PAIR)[0]) / (2 * h)
    assert np.abs(repulsion(r, *PAIR)[1] - slope).max() < 1e-7 * np.abs(slope).max()


def test_it_falls_all_the_way_and_ends_with_two_derivatives():
    r = np.linspace(0.1, 2.5, 500)
    phi, slope = repulsion(r, *PAIR)
    assert (np.diff(phi)[r[1:] < 2] < 0).all()
    assert not phi[r >= 2].any()
    assert not slope[r >= 2].any()
    near = 2.0 - np.array([1e-2, 1e-3])
    values, slopes = repulsion(near, *PAIR)
    assert values[0] / values[1] == pytest.approx(1e3, rel=0.1)  # third order at the end: C2
    assert slopes[0] / slopes[1] == pytest.approx(1e2, rel=0.1)


def test_forces_and_virial_are_derivatives(crushed):
    basis, atoms = crushed
    total, forces, virial = core_labels(basis, atoms)
    assert total > 50

    def energy(moved: Atoms) -> float:
        return core_labels(basis, moved)[0]

    h = 1e-5
    for site, axis in ((0, 0), (7, 1), (12, 2)):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[site, axis] += sign * h
            sides.append(energy(moved))
        assert -(sides[0] - sides[1]) / (2 * h) == pytest.approx(forces[site, axis], rel=1e-6, abs=1e-6)
    for k, (a, b) in enumerate(VOIGT):
        sides = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h / 2
            strain[b, a] += sign * h / 2
            bent = atoms.copy()
            bent.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            sides.append(energy(bent))
        assert -(sides[0] - sides[1]) / (2 * h) == pytest.approx(virial[k], rel=1e-6, abs=1e-5)


def test_a_hot_crystal_does_not_feel_it():
    atoms = bulk("Cu", a=3.6, cubic=True) * 2
    atoms.rattle(0.12, seed=1)
    energy, forces, virial = core_labels(Basis.default(("Cu",), 3.6 / 2**0.5), atoms)
    assert energy == 0
    assert not forces.any()
    assert not virial.any()


def test_it_can_be_left_out(crushed):
    basis, atoms = crushed
    without = Basis(basis.species, basis.cutoff, basis.r0, basis.degrees, core=0.0)
    assert core_labels(without, atoms)[0] == 0
    assert not core_parameters(without)[0].any()
    assert Surrogate(without, np.zeros(without.size)).evaluate(atoms)[0] == 0
    with pytest.raises(BasisError, match="share of r0"):
        Basis(("Cu",), 5.0, 2.5, (4, 4, 4), core=1.0)
