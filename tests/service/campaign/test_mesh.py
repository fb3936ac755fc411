"""An oracle with a settable k-point mesh in the loop: the error of the mesh drops out of all results (decisions C2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms

from farfield.oracles.emt import EMTOracle
from farfield.oracles.mesh import mesh_by_spacing
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Proposal, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.cells import Host
from farfield.service.cells.folding import folded_cell

EMT = EMTOracle()
SPACING = 0.6
HOST = Host.named("fcc", ["Cu"], 3.6)


def mesh_of(atoms: Atoms) -> tuple[int, int, int]:
    return mesh_by_spacing(atoms, SPACING)


def mesh_error(atoms: Atoms) -> float:
    """eV: the same for a supercell and the folded conventional cell, and not the same for any two products."""
    repeats = np.rint(np.linalg.norm(atoms.cell.array, axis=1) / HOST.a)
    product = repeats * np.array(mesh_of(atoms))
    return float(len(atoms) * (0.7 / product**2).sum())


def answer(p: Proposal, wrong: float) -> Answer:
    v = EMT.evaluate(p.atoms, ("E", "F", "V")).values
    return Answer(p.ordinal, f"c{p.ordinal}", float(v["E"]) + wrong * mesh_error(p.atoms), v["F"], v["V"])


def play(info: OracleInfo, wrong: float, rounds: int = 4) -> tuple[Loop, list[Decision]]:
    data: dict[str, Any] = {
        "target": {"size": 4, "tol_geo": 1e-6, "tol_energy": 1e-6},
        "surrogate": {"level": 0, "max_level": 0},
    }
    loop, decisions = Loop(CampaignConfig.from_mapping(data), info), []
    for _ in range(rounds):
        asked = loop.ask()
        if isinstance(asked, Stop):
            break
        decisions.append(asked)
        loop.tell(asked, [answer(p, wrong) for p in asked.proposals])
    return loop, decisions


@pytest.fixture(scope="module")
def plain() -> Loop:
    return play(OracleInfo("emt", mesh="fixed"), 0.0)[0]  # so that force constants are bought alike


@pytest.fixture(scope="module")
def played() -> tuple[Loop, list[Decision]]:
    return play(OracleInfo("emt", mesh="settable", mesh_of=mesh_of), 1.0)


Played = tuple[Loop, list[Decision]]


def test_the_error_of_the_mesh_drops_out(plain: Loop, played: Played) -> None:
    meshed, decisions = played
    assert plain.surrogate is not None
    assert meshed.surrogate is not None
    sizes = {p.rung for d in decisions for p in d.proposals if p.role == "verification"}
    assert len(sizes) > 1
    assert np.allclose(plain.surrogate.coefficients[:-1], meshed.surrogate.coefficients[:-1], rtol=0, atol=1e-6)
    assert len(plain.state.estimates) == len(meshed.state.estimates) > 1
    for a, b in zip(plain.state.estimates, meshed.state.estimates, strict=True):
        for key in ("formation_energy", "eta_energy", "eta_geo"):
            assert b[key] == pytest.approx(a[key], abs=1e-6), key


def test_without_its_references_the_error_would_stay(plain: Loop) -> None:
    blind, _ = play(OracleInfo("emt"), 1.0, rounds=8)
    off = blind.state.estimates[0]["formation_energy"] - plain.state.estimates[0]["formation_energy"]
    assert abs(off) > 0.1


def test_each_rung_has_a_conventional_cell_with_the_folded_mesh(played: Played) -> None:
    _, decisions = played
    proposals = [p for d in decisions for p in d.proposals]
    rungs = {p.rung for p in proposals if p.role in ("training", "verification")}
    references = {p.rung: p.atoms for p in proposals if p.role == "reference"}
    assert rungs <= set(references)
    for rung in rungs:
        atoms = references[rung]
        assert len(atoms) == HOST.nb
        supercell = Host.named("fcc", ["Cu"], float(atoms.cell.array[0, 0])).atoms(rung)
        assert atoms.info["mesh"] == tuple(n * m for n, m in zip(rung, mesh_of(supercell), strict=True))


def test_strained_conventional_cells_all_have_the_mesh_of_the_unstrained_one(played: Played) -> None:
    _, decisions = played
    for d in (decisions[0], decisions[2]):  # the equation of state; the strained cells of the first estimate
        unit = [p for p in d.proposals if p.rung == (1, 1, 1) and p.role != "reference"]
        assert len(unit) > 5
        assert len({p.atoms.info["mesh"] for p in unit}) == 1


def test_the_folded_cell_multiplies_the_mesh() -> None:
    atoms = folded_cell(HOST, (2, 3, 4), lambda a: (3, 2, 1))
    assert atoms.info["mesh"] == (6, 6, 4)
    assert len(atoms) == HOST.nb
