"""tblite as an oracle: what it supports of the contract, and what it says it does not give."""

from __future__ import annotations

from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk
from required import loaded

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles import contract
from farfield.oracles.tblite import TbliteOracle


def oracle(**parameters: Any) -> TbliteOracle:
    return loaded("tblite", lambda: TbliteOracle(**parameters))


def cell() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=7)
    return atoms


def test_the_contract_holds_with_the_virial_of_gamma_alone() -> None:
    results = contract.run(oracle(smallest=0.0), cell())
    assert [r.name for r in results if r.passed is None] == [
        "doubled cell",
        "energies across meshes",
        "no jumps",
        "time of a call",
    ]
    assert all(r.passed for r in results if r.passed is not None), results


def test_a_small_cell_has_no_virial_and_the_reason_is_given() -> None:
    answer = oracle().evaluate(cell(), ("E", "F", "V"))
    assert answer.kinds == ("E", "F")
    assert "Gamma" in answer.missing["V"]
    with pytest.raises(OracleError) as fault:
        oracle().evaluate(cell(), ("V",))
    assert fault.value.failure == "not supported"


def test_a_kind_that_a_small_cell_cannot_have_is_told_and_no_fault() -> None:
    found = {r.name: r for r in contract.run(oracle(), cell(), names=("declared kinds", "V = -dE/d(strain)"))}
    assert found["declared kinds"].passed
    assert "Gamma point alone gives no stress" in found["declared kinds"].detail
    assert found["V = -dE/d(strain)"].passed is None


def test_what_does_not_converge_says_so() -> None:
    with pytest.raises(OracleError) as fault:
        oracle(max_iterations=1).evaluate(cell(), ("E",))
    assert fault.value.failure == "not converged"


def test_wrong_parameters_are_refused() -> None:
    oracle()
    with pytest.raises(OracleLoadError, match="GFN3"):
        TbliteOracle(method="GFN3-xTB")
    with pytest.raises(OracleLoadError, match="accuracy is -1"):
        TbliteOracle(accuracy=-1.0)
