"""The estimator of an oracle's noise: unbiased, blind to net forces, and what it does without a kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from farfield.oracles.emt import EMTOracle
from farfield.oracles.noise import Noise, equal_cells, measured

RNG = np.random.default_rng(5)


def answers(natoms: int, sigma: tuple[float, float, float], count: int = 4) -> list[dict[str, Any]]:
    E, F, V = -3.0, np.linspace(-1, 1, 3 * natoms).reshape(-1, 3), np.arange(6.0)
    return [
        {
            "E": E + natoms * sigma[0] * RNG.normal(),
            "F": F + sigma[1] * RNG.normal(size=F.shape),
            "V": V + natoms * sigma[2] * RNG.normal(size=6),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("net", [True, False])
@pytest.mark.parametrize(("natoms", "count"), [(4, 4), (2, 2)])
def test_variances_are_those_that_were_put_in(natoms: int, count: int, net: bool) -> None:
    sigma, found = (0.3, 0.02, 0.1), []
    for _ in range(2000):
        given = answers(natoms, sigma, count)
        if not net:  # as of a program that takes the net force out itself
            for a in given:
                a["F"] -= a["F"].mean(axis=0)
        found.append(measured(natoms, given))
    squares = np.array([[n.energy**2, n.force**2, (n.virial or 0) ** 2] for n in found])
    assert np.sqrt(squares.mean(axis=0)) == pytest.approx(sigma, rel=0.06)


def test_equal_cells_are_equal_and_none_is_the_cell_itself() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[1] = 13
    atoms.rattle(0.1, seed=1)
    oracle, base = EMTOracle(), atoms.copy()
    here = oracle.evaluate(atoms, ("E", "F", "V")).values
    cells = equal_cells(atoms)
    assert len(cells) == 3
    for cell, order in cells:
        assert np.abs(cell.positions - atoms.positions).max(axis=1).min() > 0.02
        there = dict(oracle.evaluate(cell, ("E", "F", "V")).values)
        forces = np.empty((4, 3))
        forces[order] = there["F"]
        assert np.allclose(forces, here["F"], atol=1e-10)
        assert np.isclose(there["E"], here["E"], atol=1e-10)
        assert np.allclose(there["V"], here["V"], atol=1e-9)
    assert atoms == base


def test_a_kind_that_fewer_than_two_answered_is_none_or_refused() -> None:
    given = answers(4, (0.1, 0.1, 0.1))
    for a in given[1:]:
        del a["V"]
    assert measured(4, given).virial is None
    for a in given[1:]:
        a["F"] = None
    with pytest.raises(ValueError, match="two equal cells"):
        measured(4, given)


def test_json_and_words() -> None:
    noise = Noise(1e-5, 0.002)
    assert Noise.from_json(noise.to_json()) == noise
    assert str(noise) == "sigma_E 1e-05 eV/atom, sigma_F 0.002 eV/Å"
    assert not noise.none
    assert Noise(0.0, 0.0, 0.0).none
    assert Noise(0.0, 0.0).none
