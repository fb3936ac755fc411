from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from farfield.errors import BasisError
from farfield.service.surrogate import CUTOFFS, LEVELS, Basis, bond_lengths, design


def test_counts_agree_with_the_published_selection():
    """surrogate.md section 2: 8/8/8 and 16/16/12 with one species, one-body column included."""
    assert Basis(("W",), 5.0, 2.74, (8, 8, 8)).size == 55
    assert Basis(("W",), 5.0, 2.74, (16, 16, 12)).size == 296
    assert Basis(("C", "Si"), 5.0, 1.9, (10, 10, 9)).size == 850


def test_ladder_levels_are_nested_and_affordable():
    bases = [Basis.default(("Cu",), 2.55, level) for level in range(len(LEVELS))]
    for small, large in pairwise(bases):
        assert set(small.functions) < set(large.functions)
    assert bases[0].size < 40
    assert bases[-1].size < 400


@pytest.mark.parametrize("lattice", sorted(CUTOFFS))
def test_default_cutoffs_lie_between_shells(lattice):
    cell = {"diamond": "Si", "zincblende": "SiC", "rocksalt": "NaCl", "b2": "NiAl"}.get(lattice, "Cu")
    atoms = bulk(cell, {"b2": "cesiumchloride"}.get(lattice, lattice), a=4.0, cubic=lattice != "b2")
    d = neighbor_list("d", atoms, 12.0)
    basis = Basis.default(("Cu",), d.min(), lattice=lattice)
    assert basis.cutoff == CUTOFFS[lattice] * d.min()
    assert np.abs(d / basis.cutoff - 1).min() > 0.04
    assert Basis.default(("Cu",), 2.5, cutoff=4.4, lattice=lattice).cutoff == 4.4


def test_json_round_trip_is_exact(system):
    basis, _ = system
    again = Basis.from_json(json.loads(json.dumps(basis.to_json())))
    assert again == basis
    assert again.functions == basis.functions
    assert np.array_equal(again.prior, basis.prior)


def test_prior_grows_with_degree_and_spares_the_one_body_columns(system):
    basis, _ = system
    assert basis.prior.shape == basis.one_body.shape == (basis.size,)
    assert basis.one_body.sum() == len(basis.species)
    for v, f in enumerate(basis.functions):
        for w, g in enumerate(basis.functions):
            if len(f) == len(g) and all(s.l <= t.l and s.n <= t.n for s, t in zip(f, g, strict=True)):
                assert basis.prior[v] <= basis.prior[w]


def test_description_names_columns_and_degrees(copper):
    text = copper[0].describe()
    assert str(copper[0].size) in text
    assert "(5, 8, 8)" in text
    assert "5.200" in text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"species": ("Xx",)}, "chemical symbols"),
        ({"species": ("Cu", "Cu")}, "distinct"),
        ({"species": ()}, "distinct"),
        ({"cutoff": 2.0}, "cutoff"),
        ({"cutoff": float("nan")}, "cutoff"),
        ({"r0": ((2.5, 2.5),)}, "symmetric table for 1 species"),
        ({"r0": ((float("nan"),),)}, "cutoff"),
        ({"degrees": (0, 0, 0)}, "no functions"),
        ({"degrees": (-1, 4, 4)}, "no functions"),
    ],
)
def test_senseless_bases_are_refused(change, match):
    arguments = {"species": ("Cu",), "cutoff": 5.0, "r0": 2.5, "degrees": (4, 4, 4)} | change
    with pytest.raises(BasisError, match=match):
        Basis(**arguments)


def test_foreign_and_damaged_descriptions_are_refused(copper):
    with pytest.raises(BasisError, match="family"):
        Basis.from_json({"family": "SNAP"})
    data = copper[0].to_json()
    del data["degrees"]
    with pytest.raises(BasisError, match="damaged"):
        Basis.from_json(data)


@pytest.mark.parametrize("level", [-1, len(LEVELS)])
def test_levels_outside_the_ladder_are_refused(level):
    with pytest.raises(BasisError, match="level"):
        Basis.default(("Cu",), 2.55, level)


def test_a_table_of_one_distance_is_that_distance(carbide):
    basis, atoms = carbide
    table = Basis(basis.species, basis.cutoff, ((1.89, 1.89), (1.89, 1.89)), basis.degrees)
    assert np.array_equal(design(basis, atoms).forces, design(table, atoms).forces)


def test_distances_of_other_pairs_come_from_radii():
    table = np.array(bond_lengths(("Au", "Cu"), ("Cu", "Cu"), 2.56))
    assert table[1, 1] == pytest.approx(2.56)
    assert table[0, 1] == pytest.approx((table[0, 0] + table[1, 1]) / 2)
    assert table[0, 0] > table[1, 1]
    assert Basis.default(("C", "Si"), 1.9, bond=("C", "Si")).distances[0, 1] == pytest.approx(1.9)


def test_a_description_with_a_table_round_trips(carbide):
    basis = Basis(("C", "Si"), 4.4, ((1.5, 1.9), (1.9, 2.3)), (4, 6, 7), core=0.5)
    assert Basis.from_json(json.loads(json.dumps(basis.to_json()))) == basis
    assert "C-Si 1.900 Å" in basis.describe()
    assert "core below 0.5 r0" in basis.describe()
