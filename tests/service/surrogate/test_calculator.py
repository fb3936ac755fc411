from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from farfield.errors import BasisError
from farfield.service.surrogate import Basis, Surrogate, SurrogateCalculator


@pytest.fixture
def model():
    basis = Basis(("Cu",), 5.0, 2.55, (5, 7, 7))
    return Surrogate(basis, np.random.default_rng(0).normal(size=basis.size) / basis.prior)


@pytest.fixture
def atoms():
    found = bulk("Cu", a=3.6, cubic=True) * (2, 2, 2)
    found.rattle(0.05, seed=1)
    return found


def test_properties_follow_ase_conventions(model, atoms):
    energy, forces, virial = model.evaluate(atoms)
    atoms.calc = SurrogateCalculator(model)
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(energy, rel=1e-12)
    assert np.allclose(atoms.get_forces(), forces, rtol=1e-10, atol=1e-12)
    assert np.allclose(atoms.get_stress(), -virial / atoms.get_volume(), rtol=1e-10, atol=1e-14)
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, rel=1e-12)


def test_results_follow_every_change(model, atoms):
    atoms.calc = SurrogateCalculator(model)
    atoms.get_forces()
    atoms.positions[0] += 0.02
    assert np.allclose(atoms.get_forces(), model.evaluate(atoms)[1], rtol=1e-10, atol=1e-12)
    atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
    assert np.allclose(atoms.get_forces(), model.evaluate(atoms)[1], rtol=1e-10, atol=1e-12)
    del atoms[3]
    assert np.allclose(atoms.get_forces(), model.evaluate(atoms)[1], rtol=1e-10, atol=1e-12)


def test_results_are_not_overwritten_by_the_next_call(model, atoms):
    calculator = SurrogateCalculator(model)
    atoms.calc = calculator
    first = calculator.get_property("energies", atoms)
    kept = first.copy()
    atoms.positions[0] += 0.05
    calculator.get_property("energies", atoms)
    assert np.array_equal(first, kept)


def test_it_loads_from_a_file(model, atoms, tmp_path):
    model.save(tmp_path / "surrogate.ff")
    atoms.calc = SurrogateCalculator(tmp_path / "surrogate.ff")
    assert atoms.get_potential_energy() == pytest.approx(model.evaluate(atoms)[0], rel=1e-12)
    with pytest.raises(BasisError, match="check the path"):
        SurrogateCalculator(tmp_path / "missing.ff")


def test_molecules_have_no_stress(model):
    cluster = bulk("Cu", a=3.6, cubic=True)
    cluster.pbc = False
    cluster.cell[:] = 0
    cluster.calc = SurrogateCalculator(model)
    assert np.isfinite(cluster.get_potential_energy())
    assert "stress" not in cluster.calc.results
