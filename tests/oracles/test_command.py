"""The command oracle with real programs: bit-exact files there and back, and each fault in its own class."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pair_program
import pytest
from ase import Atoms
from ase.io import read

from farfield.errors import OracleCrash, OracleError, OracleLoadError, OracleNotImportable, OracleParameterError
from farfield.oracles import contract, gate, registry
from farfield.oracles.command import CommandOracle, extended_xyz
from farfield.oracles.contract import periodic_cell
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.observation import VOIGT

PROGRAM = str(Path(pair_program.__file__))


def make(fault: str = "none", **more: Any) -> CommandOracle:
    command = [sys.executable, "-S", PROGRAM, fault, "{input}", "{output}", "{natoms}"]
    return CommandOracle(command, version="1", files=[PROGRAM], analytic=True, **more)


def direct(atoms: Atoms) -> dict[str, Any]:
    energy, forces, virial = pair_program.label(atoms.positions.tolist(), atoms.cell.tolist())
    return {"E": energy, "F": np.array(forces), "V": np.array([virial[i][j] for i, j in VOIGT])}


def cell() -> Atoms:
    return periodic_cell("fcc", "Cu")


def test_a_cell_survives_the_file_bit_for_bit() -> None:
    atoms = cell()
    atoms.set_initial_magnetic_moments([0.1, 1 / 3, -2.0, 0.0])
    atoms.pbc = (True, False, True)
    back = read(io.StringIO(extended_xyz(atoms)), format="extxyz")
    assert np.array_equal(back.positions, atoms.positions)
    assert np.array_equal(back.cell.array, atoms.cell.array)
    assert np.array_equal(back.pbc, atoms.pbc)
    assert np.array_equal(back.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments())
    assert back.get_chemical_symbols() == atoms.get_chemical_symbols()


@pytest.mark.parametrize("fault", ["none", "virial", "wrapped"])
def test_the_program_s_answer_is_ours(fault: str) -> None:
    atoms = cell()
    atoms.positions -= 1.0  # some atoms are outside of the cell
    found, true = make(fault).evaluate(atoms, ("E", "F", "V")).values, direct(atoms)
    for kind in ("E", "F", "V"):
        assert np.abs(found[kind] - true[kind]).max() < 1e-12


def test_the_sign_of_the_stress_is_the_stated_one() -> None:
    found = make("compression", stress="compression").evaluate(cell(), ("V",)).values
    assert found["V"] == pytest.approx(direct(cell())["V"], abs=1e-12)
    wrong = contract.run(make("compression"), cell(), names=["V = -dE/d(strain)"])
    assert [r.passed for r in wrong] == [False]


def test_the_free_energy_is_the_label() -> None:
    answer, energy = make("smeared").evaluate(cell(), ("E",)), direct(cell())["E"]
    assert answer.values["E"] == pytest.approx(energy - 0.5)
    assert answer.energy_zero == pytest.approx(energy)


def test_it_fulfils_the_contract() -> None:
    results = contract.run(make(), cell())
    assert {r.name for r in results if not r.passed} == {"energies across meshes", "noise", "time of a call"}, results


@pytest.mark.parametrize(
    ("fault", "failure", "message"),
    [
        ("exit", "crashed", "ended with exit code 9"),
        ("abort", "crashed", "killed by signal 6"),
        ("cycles", "not converged", "exit code 3"),
        ("loose", "not converged", "did not converge"),
        ("silent", "bad answer", "wrote no output"),
        ("garbage", "bad answer", "no extended XYZ"),
        ("frames", "bad answer", "2 frames"),
        ("fewer", "bad answer", "answered for 3 atoms, asked were 4"),
        ("species", "bad answer", "other species"),
        ("order", "bad answer", "moved atoms"),
        ("relaxed", "bad answer", "moved atoms by up to 0.01"),
        ("strained", "bad answer", "another cell"),
        ("nan", "bad answer", "F is not finite"),
        ("skewed", "bad answer", "not symmetric"),
        ("words", "bad answer", "the energy is not made of numbers"),
        ("pairs", "bad answer", "forces has the shape"),
    ],
)
def test_each_fault_has_its_class(fault: str, failure: str, message: str) -> None:
    oracle, kinds = make(fault, failures={"3": "not converged"}), ("E", "F", "V")
    with pytest.raises(OracleError, match=message) as raised:
        gate.demand(cell(), kinds, oracle.evaluate(cell(), kinds))
    assert raised.value.failure == failure
    assert "\n" not in str(raised.value)


def test_an_exit_code_is_kept() -> None:
    with pytest.raises(OracleCrash) as raised:
        make("exit").evaluate(cell(), ("E",))
    assert raised.value.exitcode == 9


def test_a_kind_that_is_not_written_is_missing_and_the_others_are_kept() -> None:
    answer = make("no stress").evaluate(cell(), ("E", "F", "V"))
    assert answer.kinds == ("E", "F")
    assert answer.missing["V"].startswith("not supported")


def test_nothing_is_left_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make().evaluate(cell(), ("E",))
    with pytest.raises(OracleError):
        make("exit").evaluate(cell(), ("E",))
    assert list(tmp_path.iterdir()) == []


def test_no_shell_reads_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", "import sys; print(sys.argv)", "; touch spoiled", "$(touch spoiled)"]
    with pytest.raises(OracleError, match="wrote no output"):
        CommandOracle([*command, "{input}", "{output}"], version="1").evaluate(cell(), ("E",))
    assert not list(tmp_path.rglob("spoiled"))


def test_relative_files_are_found_from_where_the_oracle_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "label.py").write_text(Path(PROGRAM).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-S", "label.py", "none", "{input}", "{output}", "{natoms}"]
    oracle = CommandOracle(command, version="1", files=["label.py"])
    monkeypatch.chdir("/")
    assert oracle.evaluate(cell(), ("E",)).kinds == ("E",)


def test_the_fingerprint_is_arguments_files_and_version(tmp_path: Path) -> None:
    other = tmp_path / "potential"
    other.write_text("1")
    first = CommandOracle(["true", "{input}", "{output}"], "1", [str(other)])
    hashes = {
        fingerprint_hash(first),
        fingerprint_hash(CommandOracle(["true", "{input}", "{output}"], "2", [str(other)])),
        fingerprint_hash(CommandOracle(["true", "-v", "{input}", "{output}"], "1", [str(other)])),
        fingerprint_hash(CommandOracle(["true", "{input}", "{output}"], "1", [str(other)], stress="compression")),
    }
    assert len(hashes) == 4
    assert fingerprint_hash(CommandOracle(["true", "{input}", "{output}"], "1", [str(other)], mesh="none")) in hashes
    other.write_text("2")
    assert fingerprint_hash(CommandOracle(["true", "{input}", "{output}"], "1", [str(other)])) not in hashes


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({}, OracleParameterError, r"oracle\.parameters\.command is lacking"),
        ({"command": "label in out", "version": "1"}, OracleParameterError, "command = .* should be a list"),
        ({"command": ["true", "{input}", "{output}"]}, OracleParameterError, r"version is lacking"),
        ({"command": [], "version": "1"}, OracleParameterError, "is empty"),
        ({"command": ["true", "--in={input}", "{output}"], "version": "1"}, OracleParameterError, "whole arguments"),
        ({"command": ["true", "{inptu}", "{output}"], "version": "1"}, OracleParameterError, "whole arguments"),
        ({"command": ["true", "{input}"], "version": "1"}, OracleParameterError, r"lacks the argument \{output\}"),
        ({"command": ["no-such-program", "{input}", "{output}"], "version": "1"}, OracleNotImportable, "not found"),
        (
            {"command": ["true", "{input}", "{output}"], "version": "1", "files": ["nowhere.dat"]},
            OracleParameterError,
            "names nowhere.dat, which cannot be read",
        ),
        (
            {"command": ["true", "{input}", "{output}"], "version": "1", "failures": {"3": "no convergence"}},
            OracleParameterError,
            r"failures\.3 = 'no convergence' is no failure class",
        ),
        (
            {"command": ["true", "{input}", "{output}"], "version": "1", "supports": ["E", "X"]},
            OracleLoadError,
            "supports lists X",
        ),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(
    parameters: dict[str, Any], kind: type[OracleLoadError], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        registry.load("command", parameters)
    assert "\n" not in str(raised.value)
