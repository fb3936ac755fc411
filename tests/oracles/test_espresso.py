"""pw.x as an oracle: the contract, folding of meshes, the rule of the mesh, fallbacks, refusals. Not converged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from required import loaded

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles import contract, espresso
from farfield.oracles.espresso import EspressoOracle
from farfield.oracles.mesh import explicit_mesh, mesh_by_spacing

ALUMINIUM: dict[str, Any] = {
    "pseudopotentials": {"Al": "Al.pz-vbc.UPF"},
    "ecutwfc": 15.0,
    "k_spacing": 1.2,
    "degauss": 0.05,
}
SILICON: dict[str, Any] = {
    "pseudopotentials": {"Si": "Si.pz-vbc.UPF"},
    "ecutwfc": 15.0,
    "k_spacing": 1.2,
    "smearing": "none",
}
LAWS = ("F = -dE/dx", "translation", "rotation", "permutation", "repeatability")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files of failed calls stay in the working folder."""
    monkeypatch.chdir(tmp_path)


def oracle(parameters: dict[str, Any]) -> EspressoOracle:
    return loaded("qe", lambda: EspressoOracle(**parameters))


def cell(name: str) -> Atoms:
    atoms = bulk(name, cubic=name == "Al")
    atoms.rattle(0.05, seed=7)
    return atoms


@pytest.mark.parametrize(("name", "parameters"), [("Al", ALUMINIUM), ("Si", SILICON)], ids=["Al", "Si"])
def test_the_contract_holds_to_the_error_of_the_grid(name: str, parameters: dict[str, Any]) -> None:
    tolerances = contract.Tolerances(energy=5e-4, force=0.01, virial=0.02)
    results = contract.run(oracle(parameters), cell(name), tolerances=tolerances, names=LAWS)
    assert all(r.passed for r in results), [r for r in results if not r.passed]


def test_the_virial_is_the_slope_for_a_shear_that_keeps_the_plane_waves() -> None:
    pw, atoms, step = oracle(SILICON), cell("Si"), 5e-3
    atoms.set_cell(atoms.cell.array @ [[1, 0.05, 0], [0.05, 1, 0], [0, 0, 1]], scale_atoms=True)
    told = np.asarray(pw.evaluate(atoms, ("V",)).values["V"])
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        e = np.zeros((3, 3))
        e[0, 1] = e[1, 0] = 0.5 * sign * step
        strained.set_cell(atoms.cell.array @ (np.eye(3) + e), scale_atoms=True)
        strained.info["mesh"] = pw.mesh_of(atoms)
        energies.append(float(pw.evaluate(strained, ("E",)).values["E"]))
    assert told[5] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=0.05)
    assert abs(told[5]) > 0.2  # else the sign is not tested


def test_the_folded_mesh_gives_the_supercell_its_energy() -> None:
    pw = oracle(ALUMINIUM)
    unit = bulk("Al", a=4.0)
    folded = unit.copy()
    unit.info["mesh"], folded.info["mesh"] = (1, 1, 1), (2, 2, 2)
    double = unit * (2, 2, 2)
    double.info["mesh"] = (1, 1, 1)
    energies = [float(pw.evaluate(a, ("E",)).values["E"]) for a in (unit, folded, double)]
    assert energies[2] / 8 == pytest.approx(energies[1], abs=1e-4)  # eV per atom (decisions C2)
    assert abs(energies[0] - energies[1]) > 0.1


def test_no_band_that_a_hot_smearing_fills_is_cut_off() -> None:
    pw = oracle({**ALUMINIUM, "smearing": "fd", "degauss": 0.04})
    unit = bulk("Al", a=4.0)
    unit.info["mesh"] = (2, 2, 4)
    large = bulk("Al", a=4.0) * (2, 2, 1)
    large.info["mesh"] = (1, 1, 4)
    answers = [pw.evaluate(a, ("E",)) for a in (unit, large)]
    assert float(answers[1].values["E"]) / 4 == pytest.approx(float(answers[0].values["E"]), abs=1e-4)
    assert answers[1].settings["bands"] > 1.5 * 6  # 12 electrons
    assert oracle(SILICON).bands(bulk("Si")) is None


def test_with_smearing_the_energy_is_the_free_energy() -> None:
    pw = oracle({**ALUMINIUM, "smearing": "fd"})
    answer = pw.evaluate(bulk("Al", a=4.0), ("E",))
    assert answer.energy_zero is not None
    assert answer.energy_zero > answer.values["E"]
    assert answer.settings["mesh"] == list(pw.mesh_of(bulk("Al", a=4.0)))


def test_a_scf_that_does_not_converge_is_tried_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pw, atoms = oracle(SILICON), cell("Si")
    good = pw.evaluate(atoms, ("E",))
    hopeless = {"electron_maxstep": 1}
    monkeypatch.setattr(espresso, "FALLBACKS", (hopeless, {"mixing_beta": 0.4}))
    again = pw.evaluate(atoms, ("E",))
    assert (again.settings["fallback"], again.settings["mixing_beta"]) == (1, 0.4)
    assert again.values["E"] == pytest.approx(float(good.values["E"]), abs=1e-5)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(espresso, "FALLBACKS", (hopeless,))
    with pytest.raises(OracleError) as fault:
        pw.evaluate(atoms, ("E",))
    assert fault.value.failure == "not converged"
    assert {f.name for f in tmp_path.glob("pw-*/0/*") if f.is_file()} == {"Si.UPF", "pw.in", "pw.out"}


def test_the_fingerprint_is_the_rule_and_not_the_mesh() -> None:
    pw = oracle(ALUMINIUM)
    before = dict(pw.fingerprint())
    pw.evaluate(bulk("Al", a=4.0), ("E",))
    assert pw.fingerprint() == before
    for change in ({"ecutwfc": 16.0}, {"k_spacing": 1.0}, {"degauss": 0.02}, {"smearing": "fd"}):
        assert oracle({**ALUMINIUM, **change}).fingerprint() != before
    assert oracle({**ALUMINIUM, "threads": 2}).fingerprint() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": ["no-such-pw.x"]}, "which is not installed: apt install quantum-espresso"),
        ({"pseudopotentials": {"Al": "no.UPF"}}, "no pseudopotential no.UPF"),
        ({"ecutwfc": -1.0}, "ecutwfc is -1.0"),
        ({"smearing": "hot"}, "smearing is 'hot'"),
        ({"system": {"nspin": 2}}, "system sets nspin"),
        ({"system": {"nbnd": 9}}, "system sets nbnd"),
        ({"command": ["cat"]}, "is not pw.x"),
    ],
)
def test_wrong_parameters_are_refused_at_once(change: dict[str, Any], said: str) -> None:
    oracle(ALUMINIUM)
    with pytest.raises(OracleLoadError, match=said):
        EspressoOracle(**{**ALUMINIUM, **change})


def test_moments_foreign_elements_and_bad_keywords_are_refused_with_their_class() -> None:
    spun = bulk("Al")
    spun.set_initial_magnetic_moments([1.0])
    for atoms, failure in ((spun, "not supported"), (bulk("Cu"), "input error")):
        with pytest.raises(OracleError) as fault:
            oracle(ALUMINIUM).evaluate(atoms, ("E",))
        assert fault.value.failure == failure
    with pytest.raises(OracleError, match=r"pw\.x failed") as fault:
        oracle({**ALUMINIUM, "system": {"no_such_key": 1}}).evaluate(bulk("Al"), ("E",))
    assert fault.value.failure == "input error"


def test_the_mesh_follows_the_spacing_unless_the_cell_carries_one() -> None:
    atoms = bulk("Al", cubic=True, a=4.0) * (1, 2, 3)
    assert mesh_by_spacing(atoms, 2 * np.pi / 12) == (3, 2, 1)  # met exactly, in spite of rounding
    atoms.info["mesh"] = (5, 4, 3)
    assert mesh_by_spacing(atoms, 1.0) == (5, 4, 3)
    for wrong in ((0, 1, 1), (1, 1), (1.5, 1, 1), "222"):
        atoms.info["mesh"] = wrong
        with pytest.raises(OracleError, match="three positive integers"):
            explicit_mesh(atoms)


def test_a_program_that_is_not_there_is_listed_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from farfield.oracles import registry

    monkeypatch.setenv("PATH", "")
    assert registry.available()["espresso"].description == f"not installed: {EspressoOracle.install}"
    with pytest.raises(OracleLoadError, match=r"needs pw\.x, which is not installed: apt install quantum-espresso"):
        registry.load("espresso", ALUMINIUM)
