"""The LAMMPS oracle against the contract, against itself as a program, and against ASE's own potential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from required import loaded

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles import contract, gate
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.lammps import LammpsOracle
from farfield.oracles.registry import load

SYSTEMS: dict[str, dict[str, Any]] = {
    "W": {"species": ["W"], "pair_style": "eam/alloy", "pair_coeff": ["* * W_zhou.eam.alloy W"]},
    "Si": {"species": ["Si"], "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]},
    "SiC": {"species": ["C", "Si"], "pair_style": "tersoff", "pair_coeff": ["* * SiC_Erhart-Albe.tersoff C Si"]},
}


def made(system: str, **more: Any) -> LammpsOracle:
    return loaded("lammps", lambda: LammpsOracle(**SYSTEMS[system], **more))


def cell(system: str) -> Atoms:
    """A rattled cell without any right angle, an atom outside of it."""
    perfect = {
        "W": bulk("W", a=3.165) * (2, 3, 2),
        "Si": bulk("Si", a=5.43) * (2, 2, 1),
        "SiC": bulk("SiC", "zincblende", a=4.36) * (2, 2, 1),
    }[system]
    bend = np.array([[1, 0.04, 0], [0, 1.02, 0.03], [0.02, 0, 0.98]])
    perfect.set_cell(perfect.cell.array @ bend, scale_atoms=True)
    perfect.rattle(0.03, seed=4)
    perfect.positions[1] += perfect.cell[0] - 2 * perfect.cell[2]
    return perfect


@pytest.mark.parametrize("system", ["W", "Si"])
def test_it_passes_the_contract(system: str) -> None:
    oracle = made(system)
    results = contract.run(oracle, cell(system))
    assert [r for r in results if r.passed is False] == []
    assert len([r for r in results if r.passed]) >= 7
    found = oracle.evaluate(cell(system), ("E", "F", "V"))
    assert gate.check(cell(system), ("E", "F", "V"), found) == []


def test_the_program_and_the_library_agree() -> None:
    inside = made("SiC")
    outside = made("SiC", program=["lmp"])  # the wheel's own where no other is on the PATH
    a, b = (o.evaluate(cell("SiC"), ("E", "F", "V")).values for o in (inside, outside))
    assert a["E"] == pytest.approx(b["E"], abs=1e-10)
    assert np.abs(a["F"] - b["F"]).max() < 1e-10
    assert np.abs(a["V"] - b["V"]).max() < 1e-9


def test_it_agrees_with_ase(tmp_path: Path) -> None:
    """ASE's tabulated EAM is splined otherwise, so to 1e-4 only."""
    from ase.calculators.eam import EAM

    oracle = made("W")
    atoms = cell("W")
    file = next(w for line in oracle._lines for w in line.split() if w.endswith("W_zhou.eam.alloy"))
    ours = oracle.evaluate(atoms, ("E", "F")).values
    atoms.calc = EAM(potential=file)
    assert ours["E"] == pytest.approx(atoms.get_potential_energy(), rel=1e-5)
    assert np.abs(ours["F"] - atoms.get_forces()).max() < 1e-4


def test_the_fingerprint_is_of_the_potential_not_of_its_place(tmp_path: Path) -> None:
    oracle = made("Si")
    file = next(w for line in oracle._lines for w in line.split() if w.endswith("Si.sw"))
    copy = tmp_path / "Si.sw"
    copy.write_bytes(Path(file).read_bytes())
    moved = LammpsOracle(["Si"], "sw", [f"* * {copy} Si"])
    assert fingerprint_hash(moved) == fingerprint_hash(oracle)
    copy.write_text(copy.read_text().replace("1.80", "1.81"))
    assert fingerprint_hash(LammpsOracle(["Si"], "sw", [f"* * {copy} Si"])) != fingerprint_hash(oracle)


def test_faults_are_one_line_and_leave_it_usable() -> None:
    oracle = made("Si")
    with pytest.raises(OracleError, match="is for Si, not Cu") as caught:
        oracle.evaluate(bulk("Cu"), ("E",))
    assert caught.value.failure == "input error"
    with pytest.raises(OracleError, match="periodic"):
        oracle.evaluate(Atoms("Si", cell=(9, 9, 9)), ("E",))
    with pytest.raises(OracleLoadError, match="cannot be used: lammps refuses") as fault:
        LammpsOracle(["Si"], "sw", ["* * Si.sw Xx"])
    assert "\n" not in str(fault.value)
    assert oracle.evaluate(cell("Si"), ("E",)).values["E"] < 0


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"species": ["Xx"], "pair_style": "sw", "pair_coeff": []}, "chemical symbols"),
        ({"species": ["Si"], "pair_style": "sw", "pair_coeff": ["* * /nowhere/Si.sw Si"]}, "no potential file"),
        ({"species": ["Si"], "pair_style": "sw", "pair_coeff": ["a\nb"]}, "line break"),
        ({"species": ["Si"], "pair_style": "sw", "pair_coeff": ["* * no.sw Si"]}, "cannot be used"),
        ({"species": ["Si"], "pair_style": "no/such", "pair_coeff": ["* * Si.sw Si"]}, "no/such"),
        ({"species": ["Si"], "pair_style": "sw", "pair_coeff": [], "program": ["no-such-lmp"]}, "cannot be run"),
    ],
)
def test_wrong_parameters_fail_at_once(parameters: dict[str, Any], says: str) -> None:
    made("Si")
    with pytest.raises(OracleLoadError, match=says):
        load("farfield.oracles.lammps:LammpsOracle", parameters).fingerprint()


def test_a_left_handed_cell_is_the_same_crystal() -> None:
    oracle, atoms = made("Si"), cell("Si")
    swapped = atoms.copy()
    swapped.set_cell(atoms.cell.array[[1, 0, 2]])
    assert np.linalg.det(swapped.cell.array) * np.linalg.det(atoms.cell.array) < 0
    one, two = (oracle.evaluate(a, ("E", "F", "V")).values for a in (atoms, swapped))
    for kind in ("E", "F", "V"):
        assert np.allclose(one[kind], two[kind], rtol=0, atol=1e-8)
