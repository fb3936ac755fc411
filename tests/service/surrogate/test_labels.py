from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from farfield.errors import BasisError, FitError
from farfield.service.surrogate import (
    Basis,
    EvidenceRidge,
    ForceConstantColumn,
    Surrogate,
    calculated,
    design,
    force_constant_rows,
    labelled_rows,
)

BASIS = Basis.default(("Cu",), 2.55, 0)


def _cell(seed, repeat=(2, 2, 1)):
    atoms = bulk("Cu", cubic=True, a=3.6) * repeat
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture
def model():
    """A surrogate as its own oracle: its labels are exact in the basis."""
    return Surrogate(BASIS, np.random.default_rng(0).normal(size=BASIS.size) / BASIS.prior)


def _labels(model, atoms):
    energy, forces, virial = model.evaluate(atoms)
    column = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1] += sign * 0.01 * np.array([0.0, 1.0, 0.0])
        column.append(model.evaluate(moved)[1])
    constants = ForceConstantColumn(1, (0.0, 1.0, 0.0), 0.01, (column[1] - column[0]) / 0.02)
    return {"E": energy, "F": forces, "V": virial, "FC": [constants]}


@pytest.mark.parametrize("kinds", ["E F", "F", "V FC", "E F V FC", "FC"])
def test_exact_coefficients_leave_no_residual_in_any_subset_of_kinds(model, kinds):
    cells = [_cell(seed) for seed in range(3)]
    labels = [_labels(model, a) for a in cells]
    rows = labelled_rows(BASIS, cells, labels, dict.fromkeys(kinds.split(), 2.0))
    assert set(rows.kinds) == set(kinds.split())
    assert np.abs(rows.X @ model.coefficients - rows.y).max() < 1e-9 * np.abs(rows.y).max()
    assert np.array_equal(rows.judges, np.isin(rows.kinds, ["E", "F"]))
    assert set(rows.cells) == {0, 1, 2}


def test_rows_are_weighted_and_in_order(model):
    cells = [_cell(0), _cell(1, (1, 1, 2))]
    rows = labelled_rows(BASIS, cells, [_labels(model, a) for a in cells], {"V": 3.0, "E": 5.0, "F": 1.0})
    assert list(dict.fromkeys(zip(rows.cells.tolist(), rows.kinds.tolist(), strict=True))) == [
        (c, k) for c in (0, 1) for k in ("E", "F", "V")
    ]
    for index, atoms in enumerate(cells):
        expected = design(BASIS, atoms)
        mine = rows.cells == index
        assert np.array_equal(rows.X[mine & (rows.kinds == "F")], expected.forces)
        assert np.allclose(rows.X[mine & (rows.kinds == "E")], 5 * expected.energy, rtol=1e-14)
        assert np.allclose(rows.X[mine & (rows.kinds == "V")], 3 / len(atoms) * expected.virial, rtol=1e-14)
    labels = _labels(model, cells[0])["FC"][0]
    only = labelled_rows(BASIS, cells[:1], [{"FC": [labels]}], {"FC": 0.5})
    assert np.array_equal(only.X, 0.5 * force_constant_rows(BASIS, cells[0], 1, (0, 1, 0), 0.01))


def test_kinds_without_weight_or_label_are_left_out(model):
    cells = [_cell(0), _cell(1)]
    labels = [_labels(model, a) for a in cells]
    del labels[1]["E"]
    rows = labelled_rows(BASIS, cells, labels)
    assert set(rows.kinds) == {"E", "F"}
    assert (rows.kinds == "E").sum() == 1
    assert set(labelled_rows(BASIS, cells, labels, {"E": 0.0, "F": 1.0}).kinds) == {"F"}


def test_labels_are_read_from_the_cells():
    """As from a file of labelled cells; V has the sign and order of the strain derivative."""
    cells = [_cell(seed) for seed in range(4)]
    for atoms in cells:
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
    found = calculated(cells[0])
    assert found["E"] == cells[0].get_potential_energy()
    assert np.array_equal(found["F"], cells[0].get_forces())
    assert np.array_equal(found["V"], -cells[0].get_volume() * cells[0].get_stress())
    rows = labelled_rows(BASIS, cells, weights={"F": 1.0, "V": 1.0})
    model = Surrogate(BASIS, EvidenceRidge(BASIS.prior, BASIS.one_body).fit(rows.X, rows.y).coef_)
    assert np.abs(model.evaluate(cells[0])[1] - cells[0].get_forces()).max() < 0.1


def test_what_a_calculator_does_not_hold_is_no_label():
    atoms = _cell(0)
    assert calculated(atoms) == {}
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, free_energy=0.5)
    assert calculated(atoms) == {"E": 0.5}
    atoms.positions[0] += 0.1
    assert calculated(atoms) == {}
    shared = EMT()
    one, two = _cell(1), _cell(2)
    one.calc = two.calc = shared
    two.get_forces()
    one.get_potential_energy()
    assert calculated(two) == {}, "the calculator has gone on to another cell"
    assert calculated(one)["E"] == one.get_potential_energy()


def test_bad_labels_are_refused():
    cells = [_cell(0), _cell(1)]
    good = {"E": 1.0, "F": np.zeros((len(cells[0]), 3))}
    with pytest.raises(FitError, match="cell 0 holds none"):
        labelled_rows(BASIS, cells)
    with pytest.raises(FitError, match="no cell has a label"):
        labelled_rows(BASIS, [])
    with pytest.raises(FitError, match="no cell has a label"):
        labelled_rows(BASIS, cells, [{"FC": []}, {}], {"FC": 1.0})
    with pytest.raises(FitError, match="1 sets of labels"):
        labelled_rows(BASIS, cells, [good])
    for bad, fault in (
        ({"E": np.nan}, "E of cell 1"),
        ({"F": np.full((16, 3), np.inf)}, "F of cell 1"),
        ({"F": np.zeros((3, 3))}, "F of cell 1"),
        ({"V": np.zeros((3, 3))}, "V of cell 1"),
        ({"energy": 1.0}, "known kinds"),
    ):
        with pytest.raises(FitError, match=fault):
            labelled_rows(BASIS, cells, [good, bad], {"E": 1.0, "F": 1.0, "V": 1.0})
    for weights in ({"E": -1.0}, {"F": np.nan}, {"forces": 1.0}):
        with pytest.raises(FitError, match="must name kinds"):
            labelled_rows(BASIS, cells, [good, good], weights)
    with pytest.raises(BasisError, match="not Au"):
        labelled_rows(BASIS, [Atoms("Au")], [{"E": 0.0}])
