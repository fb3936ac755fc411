"""Campaigns on hosts and defects of one's own: free parameters, files, complexes (decisions C3, C9, C14)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from farfield.errors import ConfigError, CrystalError
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.structures import read_host

EMT = EMTOracle()
INFO = OracleInfo("emt")


def answers(decision: Decision) -> list[Answer]:
    out = []
    for p in decision.proposals:
        v: dict[str, Any] = EMT.evaluate(p.atoms, ("E", "F", "V")).values
        out.append(Answer(p.ordinal, f"{decision.number}-{p.ordinal}", v["E"], v["F"], v["V"]))
    return out


def play(config: CampaignConfig, rounds: int) -> tuple[Loop, list[Decision], list[list[Answer]]]:
    loop, decisions, told = Loop(config, INFO), list[Decision](), list[list[Answer]]()
    while not isinstance(asked := loop.ask(), Stop) and len(decisions) < rounds:
        decisions.append(asked)
        told.append(answers(asked))
        loop.tell(asked, told[-1])
    return loop, decisions, told


@pytest.fixture(scope="module")
def hcp() -> tuple[Loop, list[Decision], list[list[Answer]]]:
    """Copper as hcp: c/a is free, and not that of spheres."""
    config = CampaignConfig.from_mapping(
        {"host": {"lattice": "hcp"}, "target": {"size": 4, "tol_geo": 0.05}, "surrogate": {"level": 1}}
    )
    return play(config, 8)


def test_size_and_shape_are_the_oracles(hcp: tuple[Loop, list[Decision], list[list[Answer]]]) -> None:
    loop, decisions, _ = hcp
    host = loop.problem.host
    pressure = EMT.evaluate(host.atoms(), ("V",)).values["V"]
    before = EMT.evaluate(loop.config.make_host().atoms(), ("V",)).values["V"]
    assert np.abs(pressure).max() < 0.02 < np.abs(before).max()  # eV; no stress along either parameter
    scans = [d for d in decisions if d.proposals[0].role == "lattice constant"]
    said = [d.reason for d in scans]
    assert sum("shape of its cell" in reason for reason in said) >= 2  # two parameters, two sweeps
    assert any("its size (3 of 4)" in reason for reason in said)


def test_estimates_on_hcp_have_every_gate_open(hcp: tuple[Loop, list[Decision], list[list[Answer]]]) -> None:
    loop, _, _ = hcp
    assert loop.state.estimates
    for e in loop.state.estimates:
        assert all(e["gates"].values())
        assert e["eta_geo"] < 0.05


def test_a_campaign_resumes_within_and_after_the_scans(hcp: tuple[Loop, list[Decision], list[list[Answer]]]) -> None:
    loop, decisions, told = hcp
    for n in range(1, len(decisions)):
        asked = Loop.restore(loop.config, INFO, decisions[:n], told[:n]).ask()
        assert isinstance(asked, Decision)
        assert asked.state == decisions[n].state
        for a, b in zip(asked.proposals, decisions[n].proposals, strict=True):
            assert np.array_equal(a.atoms.positions, b.atoms.positions)
            assert np.array_equal(a.atoms.cell.array, b.atoms.cell.array)


def files(folder: Path) -> dict[str, Any]:
    """A primitive cell, and a vacancy in another origin and order."""
    write(folder / "host.cif", bulk("Cu", "fcc", 3.61))
    atoms: Atoms = bulk("Cu", "fcc", 3.61, cubic=True).repeat(3)
    del atoms[50]
    atoms.rattle(0.03, seed=0)
    atoms.positions += [0.7, -0.4, 1.3]
    atoms.wrap()
    write(folder / "defect.cif", atoms[np.random.default_rng(0).permutation(len(atoms))])
    return {
        "host": {"file": "host.cif"},
        "defect": {"file": "defect.cif"},
        "target": {"size": 4, "tol_geo": 0.05},
        "surrogate": {"level": 1},
    }


def test_files_give_the_named_campaign(tmp_path: Path) -> None:
    data = files(tmp_path)
    own = CampaignConfig.from_mapping(data, base=tmp_path)
    named = CampaignConfig.from_mapping({k: data[k] for k in ("target", "surrogate")})
    found = [play(c, 4)[0] for c in (own, named)]
    assert found[0].problem.host.a == pytest.approx(found[1].problem.host.a, abs=1e-4)
    energies = [loop.state.estimates[-1]["formation_energy"] for loop in found]
    assert energies[0] == pytest.approx(energies[1], abs=2e-3)
    sizes = [[p.atoms.get_chemical_formula() for p in d.proposals] for d in (play(c, 3)[1][2] for c in (own, named))]
    assert sizes[0] == sizes[1]


def test_a_stored_campaign_does_not_hang_on_its_files(tmp_path: Path) -> None:
    config = CampaignConfig.from_mapping(files(tmp_path), base=tmp_path)
    (tmp_path / "host.cif").unlink()
    (tmp_path / "defect.cif").unlink()
    again = CampaignConfig.from_json(config.to_json())
    assert again.changed_from(config) == []
    assert again.make_defect(again.make_host()) == config.make_defect(config.make_host())
    write(tmp_path / "host.cif", bulk("Cu", "fcc", 3.7))
    data = json.loads(config.to_json())
    fresh = {**data, "host": {"file": "host.cif"}}
    changed = CampaignConfig.from_mapping(fresh, base=tmp_path).changed_from(config)
    assert "host.cell" in changed


def test_a_divacancy_is_less_than_two_vacancies() -> None:
    """Bound, as two neighbours share the broken bonds."""
    target = {"size": 4, "tol_geo": 0.05}
    single = CampaignConfig.from_mapping({"target": target, "surrogate": {"level": 1}})
    pair = CampaignConfig.from_mapping(
        {
            "target": target,
            "surrogate": {"level": 1},
            "defect": {"kind": "complex", "removed": [[0, 0, 0, 0], [1, 0, 0, 0]]},
        }
    )
    one, two = (play(c, 4)[0].state.estimates[-1]["formation_energy"] for c in (single, pair))
    assert 1.5 * one < two < 2 * one - 0.05


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"host": {"file": "host.cif", "lattice": "bcc"}}, "take one out"),
        ({"host": {"lattice_constant": "given"}}, "of one's own"),
        ({"host": {"c_over_a": 1.6}}, "no ratio c/a"),
        ({"host": {"cell": [[3, 0, 0], [0, 3, 0], [0, 0, 3]]}}, "go together"),
        ({"defect": {"kind": "dislocation"}}, "no point defect"),
        ({"defect": {"kind": "complex"}}, "needs defect.removed"),
        ({"defect": {"file": "none.cif"}}, "no structure file"),
        ({"defect": {"file": "defect.cif", "kind": "vacancy"}}, "take one out"),
    ],
)
def test_faults_are_told(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, CrystalError), match=said):
        CampaignConfig.from_mapping(sections, base=tmp_path)


def test_files_that_hold_no_crystal(tmp_path: Path) -> None:
    with pytest.raises(CrystalError, match="no structure file"):
        read_host(tmp_path / "none.cif")
    (tmp_path / "text.cif").write_text("no crystal at all\n", encoding="utf-8")
    with pytest.raises(CrystalError, match=r"cannot read|no periodic"):
        read_host(tmp_path / "text.cif")
    write(tmp_path / "molecule.xyz", Atoms("H2", positions=[(0, 0, 0), (0, 0, 0.7)]))
    with pytest.raises(CrystalError, match="no periodic structure"):
        read_host(tmp_path / "molecule.xyz")
