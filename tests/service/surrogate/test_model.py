from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk

from farfield.errors import BasisError
from farfield.service.surrogate import Basis, Surrogate, core_labels, design, warm


@pytest.fixture
def surrogate(system):
    basis, atoms = system
    c = np.random.default_rng(0).normal(size=basis.size) / basis.prior
    return Surrogate(basis, c), atoms


def test_contraction_equals_the_design_rows_and_the_core(surrogate):
    model, atoms = surrogate
    rows, c = design(model.basis, atoms), model.coefficients
    core, push, squeeze = core_labels(model.basis, atoms)
    energy, forces, virial = model.evaluate(atoms)
    assert energy == pytest.approx(rows.energy @ c + core, rel=1e-12)
    assert np.abs(forces.ravel() - rows.forces @ c - push.ravel()).max() < 1e-12 * np.abs(forces).max()
    assert np.abs(virial - rows.virial @ c - squeeze).max() < 1e-12 * np.abs(virial).max()


def test_site_energies_add_up(surrogate):
    model, atoms = surrogate
    evaluator = model.evaluator(atoms.get_chemical_symbols(), atoms.cell)
    energy, _, _ = evaluator(atoms.positions)
    assert evaluator.site_energies.sum() == pytest.approx(energy, rel=1e-12)


def test_evaluator_keeps_its_list_within_the_skin(surrogate):
    model, atoms = surrogate
    evaluator = model.evaluator(atoms.get_chemical_symbols(), atoms.cell, skin=0.6)
    rng = np.random.default_rng(1)
    moved = atoms.copy()
    for amplitude in (0.0, 0.05, 0.1, 0.15):
        moved.positions = atoms.positions + amplitude * rng.uniform(-1, 1, size=(len(atoms), 3))
        for mine, fresh in zip(evaluator(moved.positions), model.evaluate(moved), strict=True):
            assert np.allclose(mine, fresh, rtol=1e-11, atol=1e-11)
    assert evaluator.builds == 1
    moved.positions[3] += 0.5
    assert np.allclose(evaluator(moved.positions)[1], model.evaluate(moved)[1], rtol=1e-11, atol=1e-11)
    assert evaluator.builds == 2


def test_evaluator_follows_arrays_that_change_in_place(surrogate):
    model, atoms = surrogate
    evaluator = model.evaluator(atoms.get_chemical_symbols(), atoms.cell)
    x = atoms.positions.copy()
    before = evaluator(x)[0]
    x[2, 0] += 2.0
    after = evaluator(x)[0]
    assert evaluator.builds == 2
    x[2, 0] -= 2.0
    assert evaluator(x)[0] == pytest.approx(before, rel=1e-12)
    assert after != before


def test_wrapped_atoms_have_the_same_energy(surrogate):
    model, atoms = surrogate
    evaluator = model.evaluator(atoms.get_chemical_symbols(), atoms.cell)
    energy, forces, _ = evaluator(atoms.positions)
    x = atoms.positions.copy()
    x[1] += 2 * atoms.cell.array[0] - atoms.cell.array[2]
    again = evaluator(x)
    assert again[0] == pytest.approx(energy, rel=1e-11)
    assert np.allclose(again[1], forces, rtol=1e-9, atol=1e-10 * np.abs(forces).max())


def test_evaluator_refuses_what_relaxations_may_throw_at_it(surrogate):
    model, atoms = surrogate
    evaluator = model.evaluator(atoms.get_chemical_symbols(), atoms.cell, skin=8.0)
    evaluator(atoms.positions)
    broken = atoms.positions.copy()
    broken[0, 0] = np.nan
    with pytest.raises(BasisError, match="finite"):
        evaluator(broken)
    close = atoms.positions.copy()
    near = np.argmin(np.linalg.norm(close[1:] - close[0], axis=1)) + 1
    close[near] = close[0] + 0.01
    with pytest.raises(BasisError, match="came within"):
        evaluator(close)
    with pytest.raises(BasisError, match="knows"):
        model.evaluator(["Au"], atoms.cell)


def test_bytes_and_file_are_bit_exact(surrogate, tmp_path):
    model, atoms = surrogate
    again = Surrogate.from_bytes(model.to_bytes())
    assert again.basis == model.basis
    assert again.coefficients.tobytes() == model.coefficients.tobytes()
    assert again.to_bytes() == model.to_bytes()
    model.save(tmp_path / "model.ff")
    loaded = Surrogate.load(tmp_path / "model.ff")
    assert loaded.evaluate(atoms)[0] == model.evaluate(atoms)[0]
    assert [p.name for p in tmp_path.iterdir()] == ["model.ff"]


def test_foreign_files_are_refused(surrogate, tmp_path):
    with pytest.raises(BasisError, match="check the path"):
        Surrogate.load(tmp_path / "none.ff")
    (tmp_path / "bad.ff").write_bytes(b"not a surrogate")
    with pytest.raises(BasisError, match="no surrogate"):
        Surrogate.load(tmp_path / "bad.ff")
    with pytest.raises(BasisError, match="no surrogate"):
        Surrogate.from_bytes(surrogate[0].to_bytes()[:-20])
    with pytest.raises(BasisError, match="do not fit"):
        Surrogate(surrogate[0].basis, [1.0, 2.0])


def test_large_cells_are_a_sum_over_small_ones():
    basis = Basis.default(("Cu",), 2.55, 1)
    model = Surrogate(basis, 1 / basis.prior)
    small = bulk("Cu", a=3.6, cubic=True)
    small.rattle(0.05, seed=1)
    energy, forces, virial = model.evaluate(small)
    large = model.evaluate(small * (3, 2, 4))
    assert large[0] == pytest.approx(24 * energy, rel=1e-12)
    assert np.allclose(large[1], np.tile(forces, (24, 1)), rtol=1e-9, atol=1e-11 * np.abs(forces).max())
    assert np.allclose(large[2], 24 * virial, rtol=1e-9, atol=1e-11 * np.abs(large[2]).max())


def test_warm_loads_the_kernels_and_the_package_does_not():
    warm()
    code = "import sys, farfield; sys.exit('numba' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
