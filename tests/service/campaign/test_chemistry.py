"""Chemical potentials of foreign species, of phases from files and of both limits of a compound (decisions C9)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from ase.io import write

from farfield.errors import ConfigError
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.chemistry import rich_limits
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo
from farfield.service.campaign.loop import Loop
from farfield.service.cells import Defect, Host

EMT = EMTOracle()
SIC = Host.named("zincblende", ["Si", "C"], 4.36)


def test_the_host_is_stable_against_neither_phase_at_its_limit() -> None:
    """At the Si-rich limit mu_Si is that of silicon, and E(host) is shared out between both species at either."""
    mu, host = {"Si": -5.4, "C": -9.1}, 4 * (-5.4 - 9.1 - 0.7)
    limits = {s: rich_limits(SIC, Defect(removed=(b,)), mu, host) for s, b in (("Si", 0), ("C", 4))}
    assert limits["Si"]["Si"] == pytest.approx(5.4)  # a silicon atom less: - mu_Si
    assert limits["C"]["C"] == pytest.approx(9.1)
    assert limits["Si"]["C"] == pytest.approx(5.4 + 0.7)  # all of the heat of formation
    assert limits["C"]["Si"] == pytest.approx(9.1 + 0.7)
    for s in ("Si", "C"):
        pair = -(limits["Si"][s] + limits["C"][s])  # both atoms less: one formula unit at either limit
        assert pair == pytest.approx(host / 4)
    assert rich_limits(SIC, Defect(removed=(0,)), {"Si": -5.4}, host) == {}
    assert rich_limits(Host.named("fcc", ["Cu"], 3.6), Defect(removed=(0,)), mu, host) == {}


def play(config: CampaignConfig, rounds: int = 4) -> tuple[Loop, list[Decision], list[list[Answer]]]:
    loop, decisions, told = Loop(config, OracleInfo("emt")), list[Decision](), list[list[Answer]]()
    for _ in range(rounds):
        asked = loop.ask()
        if not isinstance(asked, Decision):
            break
        answers = []
        for p in asked.proposals:
            v: dict[str, Any] = EMT.evaluate(p.atoms, ("E", "F", "V")).values
            answers.append(Answer(p.ordinal, f"{asked.number}-{p.ordinal}", v["E"], v["F"], v["V"]))
        decisions.append(asked)
        told.append(answers)
        loop.tell(asked, answers)
    return loop, decisions, told


def solute(reference: Any) -> dict[str, Any]:
    return {
        "host": {"lattice_constant": 3.59},
        "defect": {"kind": "substitution", "species": "Al"},
        "references": {"Al": reference},
        "target": {"size": 4, "tol_geo": 0.05},
        "surrogate": {"level": 0},
    }


def test_a_phase_from_a_file_is_bought_and_is_its_energy(tmp_path: Path) -> None:
    aluminium = bulk("Al", "fcc", 4.0)
    write(tmp_path / "al.cif", aluminium)
    mu = float(EMT.evaluate(aluminium, ("E",)).values["E"])
    filed = CampaignConfig.from_mapping(solute("al.cif"), base=tmp_path)
    (tmp_path / "al.cif").unlink()  # it is in the config
    loop, decisions, told = play(CampaignConfig.from_json(filed.to_json()))
    bought = [p for d in decisions for p in d.proposals if p.role == "phase"]
    assert len(bought) == 1
    given, _, _ = play(CampaignConfig.from_mapping(solute(mu)))
    for a, b in zip(loop.state.estimates, given.state.estimates, strict=True):
        assert a["formation_energy"] == pytest.approx(b["formation_energy"], abs=1e-6)
        assert a["eta_energy"] == pytest.approx(b["eta_energy"], abs=1e-9)  # a constant on both sides
    again = Loop.restore(filed, OracleInfo("emt"), decisions, told)
    assert again.problem.constant == pytest.approx(mu)


def test_isolated_atoms_are_bought_beside_and_change_nothing() -> None:
    asked = {**solute(-0.002), "dataset": {"isolated_atoms": True}}
    loop, decisions, told = play(CampaignConfig.from_mapping(asked), 3)
    plain, others, _ = play(CampaignConfig.from_mapping(solute(-0.002)), 3)
    mine = [p for d in decisions for p in d.proposals if p.role == "isolated atom"]
    assert [p.atoms.get_chemical_symbols() for p in mine] == [["Al"], ["Cu"]]
    assert all(p.kinds == ("E",) and p.atoms.pbc.all() and p.atoms.cell.lengths().min() == 15 for p in mine)
    assert not any(p.role == "isolated atom" for d in others for p in d.proposals)
    assert loop.state.estimates == plain.state.estimates
    again = Loop.restore(CampaignConfig.from_mapping(asked), OracleInfo("emt"), decisions, told)
    assert again.state.estimates == plain.state.estimates
    start = next(d for d in decisions if mine[0] in d.proposals)
    lost = [replace(a, energy=None) if a.ordinal == mine[0].ordinal else a for a in told[start.number]]
    bare = Loop(CampaignConfig.from_mapping(asked), OracleInfo("emt"))
    for d, answers in zip(decisions[: start.number], told, strict=False):
        bare.ask()
        bare.tell(d, answers)
    bare.ask()
    bare.tell(start, lost)
    assert isinstance(bare.ask(), Decision)  # trainers miss it, the campaign does not


def test_faulty_references(tmp_path: Path) -> None:
    write(tmp_path / "cu.cif", bulk("Cu"))
    for reference, said in (("cu.cif", "the phase of Al alone"), ("none.cif", "no structure file")):
        with pytest.raises((ConfigError, ValueError), match=said):
            CampaignConfig.from_mapping(solute(reference), base=tmp_path)
