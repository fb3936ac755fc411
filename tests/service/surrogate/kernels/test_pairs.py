from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from farfield.errors import BasisError
from farfield.service.surrogate import Basis, Surrogate, design, neighbours


def test_pairs_agree_with_ase(system):
    basis, atoms = system
    pairs = neighbours(basis, atoms)
    i, j, D = neighbor_list("ijD", atoms, basis.cutoff)
    centre = np.repeat(np.arange(len(atoms)), np.diff(pairs.ptr))
    mine = sorted((int(a), int(b), *np.round(d, 9)) for a, b, d in zip(centre, pairs.j, pairs.vectors, strict=True))
    theirs = sorted((int(a), int(b), *np.round(d, 9)) for a, b, d in zip(i, j, D, strict=True))
    assert mine == theirs


def test_pairs_are_sorted_by_centre_and_species(carbide):
    pairs = neighbours(*carbide)
    for i in range(len(carbide[1])):
        assert (np.diff(pairs.species[pairs.j[pairs.ptr[i] : pairs.ptr[i + 1]]]) >= 0).all()


def test_one_atom_cell_sees_its_images():
    """Rows of the primitive cell times n are those of the n-fold cell."""
    basis = Basis(("Cu",), 5.3, 2.55, (4, 6, 6))
    small = bulk("Cu", a=3.6)
    large = bulk("Cu", a=3.6, cubic=True) * (3, 3, 3)
    one, many = design(basis, small), design(basis, large)
    assert np.diff(neighbours(basis, small).ptr) == [54]
    assert np.allclose(len(large) * one.energy, many.energy, rtol=1e-11, atol=1e-12 * np.abs(many.energy).max())
    assert np.allclose(len(large) * one.virial, many.virial, rtol=1e-11, atol=1e-11 * np.abs(many.virial).max())


def test_isolated_atom_has_only_its_one_body_energy():
    basis = Basis(("Cu",), 5.0, 2.55, (4, 6, 6))
    alone = Atoms("Cu", cell=[30, 30, 30], pbc=True)
    rows = design(basis, alone)
    assert rows.energy.tolist() == [0.0] * (basis.size - 1) + [1.0]
    assert not rows.forces.any()
    energy, forces, virial = Surrogate(basis, np.arange(basis.size)).evaluate(alone)
    assert energy == basis.size - 1
    assert not forces.any()
    assert not virial.any()


def test_cluster_without_periodicity_equals_one_in_a_large_box():
    basis = Basis(("Cu",), 5.0, 2.55, (4, 6, 6))
    cluster = bulk("Cu", a=3.6, cubic=True) * (1, 1, 2)
    cluster.rattle(0.1, seed=1)
    cluster.set_cell([40, 40, 40])
    boxed = design(basis, cluster)
    cluster.pbc = False
    assert np.allclose(design(basis, cluster).forces, boxed.forces, rtol=1e-12, atol=1e-12)


def test_bad_atoms_are_refused(copper):
    basis, atoms = copper
    twice = atoms.copy()
    twice.positions[3] = twice.positions[7] + 1e-3
    with pytest.raises(BasisError, match="coincide"):
        design(basis, twice)
    image = atoms.copy()
    image.positions[3] = image.positions[7] + image.cell.array[1]
    with pytest.raises(BasisError, match="coincide"):
        design(basis, image)
    broken = atoms.copy()
    broken.positions[0, 0] = np.nan
    with pytest.raises(BasisError, match="finite"):
        design(basis, broken)
    foreign = atoms.copy()
    foreign.symbols[4] = "Ag"
    with pytest.raises(BasisError, match="Ag"):
        design(basis, foreign)
    with pytest.raises(BasisError, match="at least one atom"):
        design(basis, Atoms(cell=[5, 5, 5], pbc=True))
    flat = atoms.copy()
    flat.set_cell([[1, 0, 0], [2, 0, 0], [0, 0, 1]])
    with pytest.raises(BasisError, match="volume"):
        design(basis, flat)
