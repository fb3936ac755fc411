"""A finished campaign replays from its database to the same decisions, without Dask (decisions A1)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.oracles.emt import EMTOracle
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Decision, OracleInfo, Proposal, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.proposals.cost import FittedCost
from farfield.service.runner.recording import as_estimated

CONFIG = CampaignConfig.from_mapping(
    {
        "campaign": {"name": "replay", "seed": 3},
        "target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05},
        "surrogate": {"level": 0},
    }
)
ORACLE = EMTOracle()
INFO = OracleInfo(ORACLE.name, "none", True)


def seconds(proposal: Proposal) -> float:
    """What a call is said to have taken: a floor of 1 s, and linear from eight atoms on."""
    return 1.0 + 0.05 * max(len(proposal.atoms), 8)


def play(database: Database) -> tuple[int, Stop]:
    """Run the campaign in this process, every label through the record."""
    record, claims = Record(database), Claims(database)
    campaign = record.create_campaign("replay", {}, ORACLE.fingerprint())
    session = claims.open_session("here", "boot", 1, time.time())
    loop = Loop(CONFIG, INFO)
    while isinstance(decision := loop.ask(), Decision):
        keys = record.store_decision(campaign, decision, fingerprint_hash(ORACLE))
        for proposal, key in zip(decision.proposals, keys, strict=True):
            attempt = claims.new_attempt(key, campaign, proposal.kinds)
            assert claims.claim(attempt, session)
            claims.finish(attempt, session, ORACLE.evaluate(proposal.atoms, proposal.kinds), seconds(proposal))
        loop.tell(decision, record.answers(campaign, decision.number))
        if (estimate := loop.estimate()) is not None:
            record.store_estimate(campaign, decision.number, estimate.to_json())
    return campaign, decision


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, Stop]:
    path = tmp_path_factory.mktemp("replay") / "replay.db"
    with open_database(f"sqlite:///{path}", create=True) as database:
        campaign, stop = play(database)
    return path, campaign, stop


def test_the_campaign_met_its_tolerance(played: tuple[Path, int, Stop]) -> None:
    assert played[2].converged
    assert "tolerance met" in played[2].reason


def test_replay_gives_the_same_decisions_and_estimates(played: tuple[Path, int, Stop]) -> None:
    path, campaign, stop = played
    with open_database(f"sqlite:///{path}", readonly=True) as database:
        record = Record(database)
        stored = record.decisions(campaign)
        estimates = record.estimates(campaign)
        loop = Loop(CONFIG, INFO)
        for old in stored:
            new = loop.ask()
            assert isinstance(new, Decision)
            assert (new.number, new.reason) == (old.number, old.reason)
            assert (new.inputs, new.weights) == (old.inputs, old.weights)
            assert new.state == old.state
            for a, b in zip(new.proposals, old.proposals, strict=True):
                assert (a.ordinal, a.kinds, a.role, a.term, a.rung) == (b.ordinal, b.kinds, b.role, b.term, b.rung)
                assert np.array_equal(a.atoms.positions, b.atoms.positions)
                assert np.array_equal(a.atoms.cell.array, b.atoms.cell.array)
            loop.tell(new, record.answers(campaign, old.number)[::-1])
            if (estimate := loop.estimate()) is not None:
                assert estimate.to_json() == estimates[old.number]
        assert loop.ask() == stop


def test_restored_loop_goes_on_where_the_record_ends(played: tuple[Path, int, Stop]) -> None:
    path, campaign, stop = played
    with open_database(f"sqlite:///{path}", readonly=True) as database:
        record = Record(database)
        stored = record.decisions(campaign)
        answers = [record.answers(campaign, d.number) for d in stored]
        for n in range(1, len(stored)):
            loop = Loop.restore(CONFIG, INFO, stored[:n], answers[:n])
            new = loop.ask()
            assert isinstance(new, Decision)
            assert new.state == stored[n].state
        assert Loop.restore(CONFIG, INFO, stored, answers).ask() == stop
        in_flight = Loop.restore(CONFIG, INFO, stored, answers[:-1])
        assert in_flight.decisions_told == len(stored) - 1


def test_each_estimate_speaks_of_the_surrogate_of_its_decision(played: tuple[Path, int, Stop]) -> None:
    path, campaign, _ = played
    with open_database(f"sqlite:///{path}", readonly=True) as database:
        record = Record(database)
        for number, estimate in record.estimates(campaign).items():
            solution = as_estimated(CONFIG, ORACLE, record, campaign, number).solution
            assert solution is not None
            assert np.isclose(solution.formation_energy, estimate["formation_energy_raw"], atol=1e-9)
            assert solution.surrogate.basis.size == estimate["basis_size"]


def test_record_shows_why_each_kind_was_bought(played: tuple[Path, int, Stop]) -> None:
    path, campaign, _ = played
    with open_database(f"sqlite:///{path}", readonly=True) as database:
        bought = [p for d in Record(database).decisions(campaign) for p in d.proposals]
    terms = {p.role: p.term for p in bought}
    assert terms["verification"] == "core"
    assert terms["force constants"] == "FC tail"
    assert terms["strain"] == "V tail"
    rungs = [p.rung for p in bought if p.role == "verification"]
    assert rungs == sorted(set(rungs), key=lambda r: (r[0] * r[1] * r[2], r))
    assert len(rungs) >= 2


def test_the_fitted_cost_model_is_stored_and_the_same_after_a_resume(played: tuple[Path, int, Stop]) -> None:
    path, campaign, _ = played
    config = CampaignConfig.from_mapping({**json.loads(CONFIG.to_json()), "cost": {"model": "fitted"}})
    with open_database(f"sqlite:///{path}", readonly=True) as database:
        record = Record(database)
        stored = record.decisions(campaign)
        answers = [record.answers(campaign, d.number) for d in stored]
    assert {d.cost_model["model"] for d in stored} == {"power"}
    loop = Loop(config, INFO)
    made: list[Decision] = []
    for told in answers:
        decision = loop.ask()
        assert isinstance(decision, Decision)
        made.append(decision)
        loop.tell(decision, told)
    assert made[0].cost_model == {"model": "fitted", "exponent": 2.5, "laws": {}}
    assert "core_seconds" not in made[0].summary
    last = FittedCost.from_json(made[-1].cost_model)
    for p in (p for d in made for p in d.proposals):
        assert last(len(p.atoms), p.role) == pytest.approx(seconds(p), rel=0.03)
    assert made[-1].summary["core_seconds"] == pytest.approx(sum(map(seconds, made[-1].proposals)), rel=0.03)
    for a, b in zip(made, stored, strict=True):  # what is bought does not hang on the clock
        assert [p.atoms for p in a.proposals] == [p.atoms for p in b.proposals]
    for n in range(1, len(made)):
        again = Loop.restore(config, INFO, made[:n], answers[:n]).ask()
        assert isinstance(again, Decision)
        assert again.cost_model == made[n].cost_model
    # a withdrawn calculation takes its time along, in the process that withdrew it and in the next one
    loop = Loop.restore(config, INFO, made[:3], answers[:3])
    assert loop.surrogate is not None
    training = next(p.ordinal for p in made[1].proposals if p.role == "training")
    loop.withdraw([next(a.calculation for a in answers[1] if a.ordinal == training)])
    told = loop.ask()
    assert isinstance(told, Decision)
    assert sum(law["calls"] for law in told.cost_model["laws"].values()) + 1 == sum(
        law["calls"] for law in made[3].cost_model["laws"].values()
    )
    loop.tell(told, answers[3])
    after = Loop.restore(config, INFO, [*made[:3], told], answers[:4]).ask()
    here = loop.ask()
    assert isinstance(after, Decision)
    assert isinstance(here, Decision)
    assert after.cost_model == here.cost_model
