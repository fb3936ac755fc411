from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from farfield.errors import BasisError
from farfield.oracles.observation import VOIGT
from farfield.service.surrogate import design, force_constant_rows, neighbours, reference
from farfield.service.surrogate.rows import affected_centres


def _relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def test_kernels_agree_with_the_plain_path(system):
    fast, plain = design(*system), reference.design(*system)
    assert _relative(fast.energy, plain.energy) < 1e-12
    assert _relative(fast.forces, plain.forces) < 1e-12
    assert _relative(fast.virial, plain.virial) < 1e-12
    scale = np.abs(plain.forces).max(axis=0) + 1e-300
    assert (np.abs(fast.forces - plain.forces).max(axis=0) / scale).max() < 1e-10  # column by column
    assert fast.forces.flags.f_contiguous
    assert fast.forces.shape == (3 * len(system[1]), system[0].size)


def test_forces_are_derivatives_of_the_energy(system):
    basis, atoms = system
    rows, h = design(basis, atoms), 2e-4
    scale = np.abs(rows.forces).max(axis=0) + 1e-300
    for site, axis in ((2, 0), (5, 1), (11, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[site, axis] += sign * h
            energies.append(design(basis, moved).energy)
        slope = -(energies[0] - energies[1]) / (2 * h)
        assert (np.abs(slope - rows.forces[3 * site + axis]) / scale).max() < 1e-6


def test_virials_are_derivatives_by_strain(system):
    basis, atoms = system
    rows, h = design(basis, atoms), 2e-5
    scale = np.abs(rows.virial).max(axis=0) + 1e-300
    for k, (a, b) in enumerate(VOIGT):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h / 2
            strain[b, a] += sign * h / 2
            bent = atoms.copy()
            bent.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(design(basis, bent).energy)
        slope = -(energies[0] - energies[1]) / (2 * h)
        assert (np.abs(slope - rows.virial[k]) / scale).max() < 1e-6


def test_rotation_permutation_translation_and_wrapping(system):
    basis, atoms = system
    rows = design(basis, atoms)
    Q = Rotation.random(rng=3).as_matrix()
    order = np.random.default_rng(4).permutation(len(atoms))
    turned = Atoms(atoms.symbols, atoms.positions @ Q.T, cell=atoms.cell.array @ Q.T, pbc=True)[order]
    turned.positions += [0.3, -7.1, 12.9]
    turned.wrap()
    new = design(basis, turned)
    assert _relative(new.energy, rows.energy) < 1e-12
    old = rows.forces.reshape(len(atoms), 3, -1)[order]
    assert _relative(new.forces.reshape(len(atoms), 3, -1), np.einsum("xy,nyk->nxk", Q, old)) < 1e-12
    full = np.zeros((3, 3, basis.size))
    for k, (a, b) in enumerate(VOIGT):
        full[a, b] = full[b, a] = rows.virial[k]
    full = np.einsum("xa,yb,abk->xyk", Q, Q, full)
    assert _relative(new.virial, np.array([full[a, b] for a, b in VOIGT])) < 1e-12


def test_forces_sum_to_nothing(system):
    forces = design(*system).forces.reshape(len(system[1]), 3, -1)
    assert np.abs(forces.sum(axis=0)).max() < 1e-12 * np.abs(forces).max()


def test_order_of_species_only_permutes_columns(carbide):
    basis, atoms = carbide
    other = type(basis)(basis.species[::-1], basis.cutoff, basis.r0, basis.degrees)
    a, b = design(basis, atoms), design(other, atoms)
    assert np.allclose(np.sort(np.linalg.norm(a.forces, axis=0)), np.sort(np.linalg.norm(b.forces, axis=0)), rtol=1e-9)
    assert a.energy[-2:].tolist() == b.energy[-2:].tolist()[::-1]


def test_subsets_of_centres_add_up(system):
    basis, atoms = system
    whole = design(basis, atoms)
    cut = len(atoms) // 3
    parts = [design(basis, atoms, range(cut)), design(basis, atoms, range(cut, len(atoms)))]
    assert np.allclose(parts[0].energy + parts[1].energy, whole.energy, rtol=1e-12)
    assert np.allclose(parts[0].forces + parts[1].forces, whole.forces, rtol=1e-12, atol=1e-12)
    assert np.allclose(parts[0].virial + parts[1].virial, whole.virial, rtol=1e-12, atol=1e-12)
    with pytest.raises(BasisError, match="centres"):
        design(basis, atoms, [len(atoms)])


def test_force_constant_rows_are_differences_of_whole_cells(system):
    basis, atoms = system
    site, direction, step = 4, np.array([1.0, 2.0, -1.0]), 0.01
    rows = force_constant_rows(basis, atoms, site, direction, step)
    sides = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[site] += sign * step * direction / np.linalg.norm(direction)
        sides.append(design(basis, moved).forces)
    assert _relative(rows, (sides[1] - sides[0]) / (2 * step)) < 1e-11
    assert rows.flags.f_contiguous


def test_only_sites_in_reach_are_affected():
    from ase.build import bulk

    from farfield.service.surrogate import Basis

    basis = Basis(("Cu",), 5.0, 2.55, (4, 4, 4))
    atoms = bulk("Cu", a=3.6, cubic=True) * (4, 4, 4)
    assert len(affected_centres(neighbours(basis, atoms), 0)) == 1 + 12 + 6 + 24
