"""The contract passes for sound force fields, and each flaw fails the check that is named after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from farfield.errors import OracleError
from farfield.oracles import contract
from farfield.oracles.ase_calculator import AseOracle
from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations

Flaw = Callable[[Atoms, dict[str, Any]], None]


def cell(symbol: str = "Cu") -> Atoms:
    """A strained and rattled cell without symmetry."""
    atoms = bulk(symbol, cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.01, 0], [0, 1, 0.02], [0.01, 0, 0.98]], scale_atoms=True)
    atoms.rattle(0.05, seed=3)
    return atoms


class Flawed(EMTOracle):
    """EMT with something done to its answer."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__()
        self.flaw = flaw

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = super().evaluate(atoms, kinds)
        self.flaw(atoms, answer.values)
        return answer


def failed(results: list[contract.CheckResult]) -> set[str]:
    return {r.name for r in results if r.passed is False}


@pytest.mark.parametrize("symbol", ["Cu", "Al"])
def test_emt_fulfils_all(symbol: str) -> None:
    results = contract.run(EMTOracle(), cell(symbol))
    assert [r.name for r in results] == list(contract.CHECKS)
    assert all(r.passed for r in results), results


def test_a_calculator_of_ase_fulfils_all() -> None:
    parameters = {"sigma": 2.3, "epsilon": 0.1, "rc": 6.0, "smooth": True}
    oracle = AseOracle("ase.calculators.lj.LennardJones", parameters, analytic=True)
    assert all(r.passed for r in contract.run(oracle, cell()))


def sign_of_stress(atoms: Atoms, values: dict[str, Any]) -> None:
    values["V"] = -values["V"]


def engineering_shear(atoms: Atoms, values: dict[str, Any]) -> None:
    values["V"] = values["V"] * [1, 1, 1, 2, 2, 2]


def energy_in_rydberg(atoms: Atoms, values: dict[str, Any]) -> None:
    values["E"] = values["E"] / 13.605693


def egg_box(atoms: Atoms, values: dict[str, Any]) -> None:
    values["E"] += 0.01 * np.sin(2 * np.pi * atoms.get_scaled_positions()[:, 0]).sum()


def fixed_axis(atoms: Atoms, values: dict[str, Any]) -> None:
    values["V"] = values["V"] + [1, 0, 0, 0, 0, 0]


def order_of_atoms(atoms: Atoms, values: dict[str, Any]) -> None:
    values["F"] = values["F"][np.lexsort(atoms.positions.T)]


def energy_per_cell_offset(atoms: Atoms, values: dict[str, Any]) -> None:
    values["E"] += 1.0


@pytest.mark.parametrize(
    ("flaw", "check"),
    [
        (sign_of_stress, "V = -dE/d(strain)"),
        (engineering_shear, "V = -dE/d(strain)"),
        (energy_in_rydberg, "F = -dE/dx"),
        (egg_box, "translation"),
        (fixed_axis, "rotation"),
        (order_of_atoms, "permutation"),
        (energy_per_cell_offset, "doubled cell"),
    ],
)
def test_a_flaw_fails_its_check(flaw: Flaw, check: str) -> None:
    assert check in failed(contract.run(Flawed(flaw), cell()))


def test_an_offset_of_the_energy_fails_nothing_else() -> None:
    assert failed(contract.run(Flawed(energy_per_cell_offset), cell())) == {"doubled cell"}


def test_noise_fails_repeatability_and_passes_within_wider_tolerances() -> None:
    noise = np.random.default_rng(5)

    def noisy(atoms: Atoms, values: dict[str, Any]) -> None:
        values["E"] += 1e-9 * noise.normal()

    oracle = Flawed(noisy)
    (result,) = contract.run(oracle, cell(), names=["repeatability"])
    assert result.passed is False
    assert "every bit" in result.detail
    oracle.analytic = False
    assert contract.run(oracle, cell(), names=["repeatability"])[0].passed


def test_checks_that_need_a_kind_that_is_lacking_are_left_out() -> None:
    oracle = EMTOracle()
    oracle.supports = frozenset({"E", "F"})
    results = {r.name: r.passed for r in contract.run(oracle, cell())}
    assert results.pop("V = -dE/d(strain)") is None
    assert all(results.values())


def test_an_oracle_that_raises_fails_with_its_message() -> None:
    def refuse(atoms: Atoms, values: dict[str, Any]) -> None:
        raise OracleError("no convergence in 100 cycles", failure="not converged")

    results = contract.run(Flawed(refuse), cell())
    assert {r.passed for r in results} == {False}
    assert results[0].detail == "not converged: no convergence in 100 cycles"
