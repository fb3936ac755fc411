"""Laws of the pure loop, with the laptop's own force fields as oracles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from farfield.errors import CampaignError, ConfigError
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign import rounds
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Proposal, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.observed import Observed
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.refit import Refit, refit
from farfield.service.campaign.state import State
from farfield.service.campaign.training import TrainingSet
from farfield.service.cells import Host
from farfield.service.surrogate import Basis, Surrogate

EMT = EMTOracle()
Force = Callable[[Atoms], tuple[float, Any, Any]]


def emt(atoms: Atoms) -> tuple[float, Any, Any]:
    v = EMT.evaluate(atoms, ("E", "F", "V")).values
    return float(v["E"]), v["F"], v["V"]


def answer(p: Proposal, oracle: Force) -> Answer:
    e, f, v = oracle(p.atoms)
    return Answer(p.ordinal, f"c{p.ordinal}", e, f, v)


def config(**sections: Any) -> CampaignConfig:
    base = {"target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05}, "surrogate": {"level": 0}}
    return CampaignConfig.from_mapping({**base, **sections})


def play(
    cfg: CampaignConfig, oracle: Force, info: OracleInfo | None = None, rounds: int = 12
) -> tuple[Loop, Stop | None]:
    loop = Loop(cfg, info or OracleInfo("emt"))
    for _ in range(rounds):
        asked = loop.ask()
        if isinstance(asked, Stop):
            return loop, asked
        loop.tell(asked, [answer(p, oracle) for p in asked.proposals])
    return loop, None


def test_asking_twice_is_asking_once() -> None:
    loop = Loop(config(), OracleInfo("emt"))
    for _ in range(3):
        first, second = loop.ask(), loop.ask()
        assert isinstance(first, Decision)
        assert isinstance(second, Decision)
        assert first.state == second.state
        for a, b in zip(first.proposals, second.proposals, strict=True):
            assert np.array_equal(a.atoms.positions, b.atoms.positions)
        loop.tell(first, [answer(p, emt) for p in first.proposals])


def test_decisions_are_told_in_order_and_whole() -> None:
    loop = Loop(config(), OracleInfo("emt"))
    decision = loop.ask()
    assert isinstance(decision, Decision)
    answers = [answer(p, emt) for p in decision.proposals]
    with pytest.raises(CampaignError, match="do not match"):
        loop.tell(decision, answers[:-1])
    loop.tell(decision, answers)
    with pytest.raises(CampaignError, match="decision 1 is next"):
        loop.tell(decision, answers)


def test_an_oracle_inside_the_model_class_is_found_exactly() -> None:
    """The surrogate equals the oracle: every term of the estimate vanishes and the loop stops at once."""
    host = Host.named("fcc", ["Cu"], 3.6)
    basis = Basis.default(("Cu",), host.nearest, 0)
    loop, _ = play(config(), emt, rounds=2)
    assert loop.surrogate is not None
    teacher = Surrogate(loop.surrogate.basis, loop.surrogate.coefficients)
    assert teacher.basis.size == basis.size
    a = loop.problem.host.a
    taught, stop = play(config(host={"lattice_constant": a}), teacher.evaluate)
    assert stop is not None
    assert stop.converged
    estimates = taught.state.estimates
    assert len(estimates) == 2
    for e in estimates:
        assert e["eta_geo"] < 2e-4
        assert abs(e["eta_energy"]) < 1e-5
        assert max(e["core"], e["fc"], e["v"], e["fold"]) < 2e-4


def test_forces_of_the_wrong_sign_are_a_bad_answer() -> None:
    _, stop = play(config(), lambda atoms: (emt(atoms)[0], -emt(atoms)[1], emt(atoms)[2]))
    assert stop is not None
    assert stop.reason.startswith("bad answer")


def test_an_oracle_with_a_mesh_buys_perfect_supercells_and_counts_the_same() -> None:
    """An energy per cell that drifts with the supercell (as meshes do) drops out against its own reference (C2)."""

    def drifting(atoms: Atoms) -> tuple[float, Any, Any]:
        e, f, v = emt(atoms)
        cells = round(atoms.get_volume() / 46.25)
        return e + 0.01 * cells * cells ** (-0.5), f, v

    info = OracleInfo("drifting", "fixed", True)
    cfg = config(host={"lattice_constant": 3.5898})
    loop, stop = play(cfg, drifting, info)
    plain, _ = play(cfg, emt)
    assert stop is not None
    assert stop.converged
    bought = set(loop.observed.references)
    assert {(1, 1, 1), (2, 2, 2), (2, 2, 3)} <= bought
    ours, theirs = loop.state.estimates[-1], plain.state.estimates[-1]
    assert abs(ours["formation_energy"] - theirs["formation_energy"]) < 2e-3


def test_an_unstable_host_lattice_is_said() -> None:
    cfg = config(host={"species": ["Ni", "Al"], "lattice": "b2"}, references={"Ni": 0.0})
    _, stop = play(cfg, emt)
    assert stop is not None
    assert "own host lattice is unstable" in stop.reason


def test_a_foreign_species_needs_its_reference() -> None:
    with pytest.raises(ConfigError, match=r"references\.Au"):
        Loop(config(defect={"kind": "substitution", "species": "Au"}), OracleInfo("emt"))


def test_a_reference_shifts_the_formation_energy_and_nothing_else() -> None:
    runs = []
    for mu in (0.0, -1.5):
        loop, _ = play(config(defect={"kind": "substitution", "species": "Au"}, references={"Au": mu}), emt, rounds=3)
        runs.append(loop.state.estimates[0])
    assert np.isclose(runs[1]["formation_energy"] - runs[0]["formation_energy"], 1.5)
    assert runs[0]["eta_geo"] == runs[1]["eta_geo"]
    assert runs[0]["eta_energy"] == runs[1]["eta_energy"]


@pytest.mark.parametrize(
    "sections",
    [
        {"defect": {"kind": "interstitial", "position": "octahedral"}},
        {"defect": {"kind": "interstitial", "position": "dumbbell-100"}, "surrogate": {"level": 1}},
        {"host": {"species": ["Al"]}},
    ],
)
def test_first_rounds_of_other_defects(sections: dict[str, Any]) -> None:
    loop, _ = play(config(**sections), emt, rounds=3)
    assert len(loop.state.estimates) == 1
    e = loop.state.estimates[0]
    assert all(np.isfinite(e[k]) for k in ("eta_geo", "eta_energy", "formation_energy"))


def test_the_target_must_leave_room_for_the_ladder() -> None:
    with pytest.raises(ConfigError, match="no room for the ladder"):
        Loop(config(target={"size": 2, "tol_geo": 0.05, "tol_energy": 0.05}), OracleInfo("emt"))


def test_a_ladder_that_reaches_the_target_ends_with_advice() -> None:
    _, stop = play(config(target={"size": 3, "tol_geo": 1e-7, "tol_energy": 1e-7}), emt)
    assert stop is not None
    assert stop.exit_code == 3
    assert "target.size above 3" in stop.reason


def test_closed_gates_grow_the_basis_before_the_campaign_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first basis, level 0, is made to fail: one round of more training, then the next level on the same labels."""

    def closed(state: State, observed: Observed, problem: Problem, training: TrainingSet, *rest: Any) -> Refit:
        fresh = refit(state, observed, problem, training, *rest)
        if training.basis.size > problem.basis(0).size:
            return fresh
        return replace(fresh, summary=fresh.summary | {"gates": dict(fresh.gates, relaxed=False)})

    monkeypatch.setattr(rounds, "refit", closed)
    loop, _ = play(config(), emt, rounds=3)
    decision = loop.ask()
    assert isinstance(decision, Decision)
    assert loop.state.level == 1
    assert "basis grown to level 1, 45 functions" in decision.reason
    assert decision.proposals[0].role == "verification"
    limited, stop = play(config(surrogate={"level": 0, "max_level": 0}), emt, rounds=12)
    assert stop is not None
    assert "stays unusable (relaxed)" in stop.reason
    assert limited.state.level == 0


def test_another_regression_leads_to_the_same_defect() -> None:
    ours, _ = play(config(), emt, rounds=4)
    theirs, _ = play(config(surrogate={"level": 0, "regressor": "sklearn.linear_model.BayesianRidge"}), emt, rounds=4)
    assert ours.solution is not None
    assert theirs.solution is not None
    assert not np.array_equal(ours.solution.surrogate.coefficients, theirs.solution.surrogate.coefficients)
    target = ours.problem.target
    assert target.norm(ours.solution.u - theirs.solution.u) < 0.1 * target.norm(ours.solution.u)
