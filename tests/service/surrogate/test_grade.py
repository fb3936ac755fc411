from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from scipy.stats import spearmanr

from farfield.errors import FitError
from farfield.service.surrogate import Basis, Triangle, design, fit, grade

WEIGHTS = {"E": 5.0, "F": 1.0}
BASIS = Basis.default(("Cu",), 2.55, 2)


def _cell(missing, amplitude, seed):
    """Copper without the sites `missing`, rattled."""
    atoms = bulk("Cu", cubic=True, a=3.6) * (3, 3, 3)
    del atoms[missing]
    atoms.rattle(amplitude, seed=seed)
    return atoms


VACANCY, PAIR = [0], [0, 1]
ONE = 1 + 1e-9


def _triangles(basis, cells, shift=0.0):
    triangles = {"E": Triangle(basis.size), "F": Triangle(basis.size)}
    for atoms in cells:
        atoms.calc = EMT()
        rows = design(basis, atoms)
        triangles["E"].add(rows.energy, atoms.get_potential_energy() + shift * len(atoms))
        triangles["F"].add(rows.forces, atoms.get_forces().ravel())
    return triangles


def _fitted(cells, **more):
    return fit(_triangles(BASIS, cells), WEIGHTS, BASIS.prior, BASIS.one_body, **more)


@pytest.fixture(scope="module")
def training():
    return [_cell(VACANCY, 0.05, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def posterior(training):
    return _fitted(training)


@pytest.fixture
def prior_only(system):
    """Both test systems under a fit of their own cell, for the symmetries."""
    basis, atoms = replace(system[0], core=0.0), system[1]  # grades are those of functions that do not fade
    rows = design(basis, atoms)
    triangle = Triangle(basis.size)
    triangle.add(rows.forces[::3], np.zeros(len(atoms)))
    return basis, atoms, fit({"F": triangle}, WEIGHTS, basis.prior, basis.one_body, strength=1e-3)


def test_it_is_the_spread_of_the_worst_direction_in_units_of_noise(prior_only):
    """Against directions on a sphere and the dense covariance."""
    basis, atoms, posterior = prior_only
    found = grade(posterior, basis, atoms)
    covariance = posterior.covariance(design(basis, atoms).forces) / posterior.noise**2
    directions = np.random.default_rng(0).normal(size=(20000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    for i in range(0, len(atoms), 5):
        block = covariance[3 * i : 3 * i + 3, 3 * i : 3 * i + 3]
        spread = np.sqrt(np.einsum("na,ab,nb->n", directions, block, directions))
        assert spread.max() <= found.sites[i] * (1 + 1e-9)
        assert spread.max() == pytest.approx(found.sites[i], rel=1e-2)
    assert found.cell == found.sites.max() == found.sites[found.worst]


def test_turning_moving_and_renumbering_change_nothing(prior_only):
    basis, atoms, posterior = prior_only
    before = grade(posterior, basis, atoms)
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ Q)
    turned.positions = atoms.positions @ Q + [0.3, -7.0, 1.1]
    turned.wrap()
    assert grade(posterior, basis, turned).sites == pytest.approx(before.sites, rel=1e-9)
    assert grade(posterior, basis, turned).energy == pytest.approx(before.energy, rel=1e-9)
    order = np.random.default_rng(1).permutation(len(atoms))
    assert grade(posterior, basis, atoms[order]).sites == pytest.approx(before.sites[order], rel=1e-9)


def test_what_is_in_the_fit_is_at_most_one(training, posterior):
    """Also where there is so little that the prior carries most."""
    lone = _fitted(training[:1])
    for fitted, cells in ((posterior, training), (lone, training[:1])):
        for atoms in cells:
            found = grade(fitted, BASIS, atoms)
            assert 0.05 < found.cell <= ONE
            assert found.energy <= ONE
    rows = design(BASIS, training[0])
    single = Triangle(BASIS.size)
    single.add(rows.forces[:3], np.ones(3))
    alone = grade(fit({"F": single}, WEIGHTS, BASIS.prior, BASIS.one_body, strength=1e-4), BASIS, training[0])
    assert alone.sites[0] == pytest.approx(1, abs=1e-3), "nothing else knows it"
    assert alone.sites[0] <= ONE
    assert alone.cell > 1


def test_the_law_holds_with_any_weights(training):
    heavy = fit(_triangles(BASIS, training[:1]), {"E": 40.0, "F": 3.0}, BASIS.prior, BASIS.one_body)
    found = grade(heavy, BASIS, training[0])
    assert 0.1 < found.cell <= ONE
    assert found.energy == pytest.approx(1), "the one energy there is fixes the one-body column alone"


def test_more_rows_never_raise_it(training, posterior):
    asked = _cell(PAIR, 0.08, 7)
    before = grade(_fitted(training[:2], strength=posterior.strength), BASIS, asked)
    after = grade(_fitted(training, strength=posterior.strength), BASIS, asked)
    assert (after.sites <= before.sites * (1 + 1e-9)).all()
    assert after.energy <= before.energy * (1 + 1e-9)
    assert (after.sites < 0.99 * before.sites).any()


def test_a_constant_per_atom_changes_nothing(training, posterior):
    shifted = fit(_triangles(BASIS, training, shift=-3.7), WEIGHTS, BASIS.prior, BASIS.one_body)
    asked = _cell(PAIR, 0.05, 7)
    assert grade(shifted, BASIS, asked).sites == pytest.approx(grade(posterior, BASIS, asked).sites, rel=1e-7)


def test_it_grows_without_bound_as_an_atom_leaves_what_is_known(posterior):
    asked = bulk("Cu", cubic=True, a=3.6) * (3, 3, 3)
    towards = asked.get_distance(0, 1, vector=True, mic=True)
    grades = []
    for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        moved = asked.copy()
        moved.positions[0] += share * towards
        grades.append(grade(posterior, BASIS, moved))
    cells = [g.cell for g in grades]
    assert cells[0] < 1
    assert all(b > 1.5 * a for a, b in pairwise(cells))
    assert cells[-1] > 1e3
    assert grades[-1].worst in (0, 1)


def test_forces_that_symmetry_or_distance_fixes_have_none(posterior):
    perfect = bulk("Cu", cubic=True, a=3.6) * (2, 2, 2)
    assert grade(posterior, BASIS, perfect).cell < 1e-6
    lone = Atoms("Cu", cell=[20, 20, 20], pbc=True)
    assert grade(posterior, BASIS, lone).cell == 0.0


def test_a_defect_that_was_not_sampled_stands_out(training, posterior):
    """A double vacancy where only single ones were sampled, and once it is sampled too."""
    asked = _cell(PAIR, 0.05, 31)
    seen = grade(posterior, BASIS, _cell(VACANCY, 0.05, 30))
    without, with_ = grade(posterior, BASIS, asked), grade(_fitted([*training, _cell(PAIR, 0.05, 3)]), BASIS, asked)
    assert without.cell > 2
    assert without.cell > 3 * max(seen.cell, with_.cell)
    away = bulk("Cu", cubic=True, a=3.6) * (3, 3, 3)
    distance = away.get_distances(0, without.worst + 2, mic=True)
    assert distance < 4.0, "the site that stands out is beside the vacancies"


def test_it_ranks_the_error_of_forces(posterior):
    """Over sites of cells inside and outside of the sampled range."""
    grades, errors = [], []
    for seed, (missing, amplitude) in enumerate([(VACANCY, 0.02), (VACANCY, 0.05), (VACANCY, 0.1), (PAIR, 0.05)]):
        atoms = _cell(missing, amplitude, 60 + seed)
        atoms.calc = EMT()
        model = (design(BASIS, atoms).forces @ posterior.mean).reshape(-1, 3)
        grades += list(grade(posterior, BASIS, atoms).sites)
        errors += list(np.linalg.norm(model - atoms.get_forces(), axis=1))
    assert spearmanr(grades, errors).statistic > 0.7


def test_energies_are_graded_against_a_reference(posterior):
    """Relative to the crystal of as many cells, as in the fit of the campaign, without the one-body columns."""
    forces_only = fit(_triangles(BASIS, [_cell(VACANCY, 0.05, 0)]), {"F": 1.0}, BASIS.prior, BASIS.one_body)
    host = bulk("Cu", cubic=True, a=3.6)
    shaken = host * (3, 3, 3)
    shaken.rattle(0.05, seed=1)
    row = 27 * design(BASIS, host).energy
    assert grade(forces_only, BASIS, shaken, row).energy < 100
    assert grade(forces_only, BASIS, shaken).energy > 1e4, "no energy has fixed the one-body column"
    assert grade(posterior, BASIS, host * (3, 3, 3), row).energy < 1e-6
    with pytest.raises(FitError, match="reference"):
        grade(posterior, BASIS, host, row[1:])
    with pytest.raises(FitError, match="columns"):
        grade(posterior, Basis.default(("Cu",), 2.55, 1), host)


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_large_cells_in_parts_are_the_same(posterior, pbc):
    atoms = bulk("Cu", cubic=True, a=3.6) * (5, 4, 3)
    atoms.rattle(0.05, seed=1)
    atoms.pbc = pbc
    atoms.positions += [100.0, -3.0, 5.0]
    if not any(atoms.pbc):
        atoms.cell[:] = 0
    whole, parts = grade(posterior, BASIS, atoms), grade(posterior, BASIS, atoms, block=30)
    assert parts.sites == pytest.approx(whole.sites, rel=1e-7)
    assert parts.energy == pytest.approx(whole.energy, rel=1e-7)


def test_only_relative_weights_matter(training, posterior):
    asked = _cell(PAIR, 0.05, 7)
    triangles, strength = _triangles(BASIS, training), posterior.strength
    light = grade(fit(triangles, WEIGHTS, BASIS.prior, BASIS.one_body, strength=strength), BASIS, asked)
    tens = {"E": 50.0, "F": 10.0}
    heavy = grade(fit(triangles, tens, BASIS.prior, BASIS.one_body, strength=10 * strength), BASIS, asked)
    assert heavy.sites == pytest.approx(light.sites, rel=1e-6)
    assert heavy.energy == pytest.approx(light.energy, rel=1e-4)


def test_noise_does_not_enter(posterior):
    asked = _cell(PAIR, 0.05, 7)
    quiet = replace(posterior, noise=1e-170)
    assert grade(quiet, BASIS, asked).sites == pytest.approx(grade(posterior, BASIS, asked).sites, rel=1e-12)
