"""One round in which every second call misbehaves: each ends in its own class, the others are answered, none stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from loops import Unlearned
from processes import soon, working_in
from sqlalchemy import select
from typer.testing import CliRunner

from farfield.db import schema
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.oracles import registry
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig, ClusterSection
from farfield.service.campaign.decision import Answer, Decision, Proposal, Stop
from farfield.service.cli.app import app
from farfield.service.runner.budgets import ATTEMPTS, FRUITLESS
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.clusters import connect
from farfield.service.runner.recording import Start, start_loop
from farfield.service.runner.runner import Result, Runner

ORACLES = Path(__file__).parents[2] / "oracles"
EXPECTED = {
    "Segfaulting": "crashed",
    "Quitting": "crashed",
    "Endless": "timed out",
    "EndlessInC": "timed out",
    "Fleeing": "timed out",
    "Stubborn": "timed out",
    "Bomb": "out of memory",
    "nan forces": "bad answer",
    "wrong shape": "bad answer",
    "one atom too few": "bad answer",
    "Stressless": "not supported",
    "not converged": "not converged",
    "Noisy": None,
}
"""The failure class in which a calculation ends, by the mood of its oracle, in the order of `misbehaving.MOODS`."""


class Once(Unlearned):
    """A loop of one decision that keeps what it is told."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.told: list[Answer] = []

    def start(self, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]) -> Once:
        return self

    def ask(self) -> Decision | Stop:
        return Stop("the round is over", True, 0) if self.told else self.decision

    def tell(self, decision: Decision, answers: Sequence[Answer]) -> None:
        self.told = list(answers)


def cell(mood: int, seed: int = 0) -> Atoms:
    """A cell whose first atom's height tells the oracle how to behave (`misbehaving.Moody`)."""
    atoms = bulk("Cu", cubic=True)
    atoms.positions[1:] += np.round(0.05 * np.random.default_rng(100 * seed + mood).normal(size=(3, 3)), 8)
    atoms.positions[0, 2] = 0.01 * mood
    return atoms


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.syspath_prepend(str(ORACLES))  # spawned workers take the path along
    with connect(ClusterSection(workers=2), one_host=True) as cluster:
        yield cluster


def run(config: CampaignConfig, database: Database, client: Cluster, start: Start | None = None) -> Result:
    oracle = registry.load(config.oracle.name)
    return Runner(config, database, client, oracle, start or start_loop(config, oracle)).run()


def test_each_misbehaviour_ends_in_its_class_and_the_others_are_answered(client: Cluster, tmp_path: Path) -> None:
    moods = [*range(1, len(EXPECTED) + 1)]
    cells = [c for mood in moods for c in (cell(mood), cell(0, seed=mood))]
    proposals = tuple(Proposal(k, a, ("E", "F", "V"), "training", "start", (1, 1, 1), {}) for k, a in enumerate(cells))
    loop = Once(Decision(0, "all moods", proposals, (), 0, {"model": "power"}, {}, {}, b"state"))
    config = CampaignConfig.from_mapping(
        {
            "oracle": {"name": "misbehaving:Moody", "wall_time": 5.0, "memory": 400},
            "run": {"folder": str(tmp_path)},
        }
    )
    url = f"sqlite:///{tmp_path / 'campaign.db'}"
    with open_database(url, create=True) as database:
        result = run(config, database, client, loop.start)
        with database.read() as connection:
            a = schema.attempt.c
            rows = connection.execute(select(a.failure, a.message).where(a.state == "failed")).all()
    assert result.converged  # the round went on to its end
    assert soon(lambda: not working_in(tmp_path))

    bad, good = loop.told[::2], loop.told[1::2]
    assert {name: answer.failure for name, answer in zip(EXPECTED, bad, strict=True)} == EXPECTED
    direct = EMTOracle()
    for answer, atoms in zip(good, cells[1::2], strict=True):
        assert answer.failure is None
        assert answer.energy == direct.evaluate(atoms, ("E",)).values["E"]
    stressless = bad[list(EXPECTED).index("Stressless")]
    assert stressless.energy is not None  # what was answered stays
    assert stressless.virial is None

    counted = {f: [x.failure for x in rows].count(f) for f in {x.failure for x in rows}}
    calculations = [f for f in EXPECTED.values() if f is not None]
    expected = {f: ATTEMPTS[f] * calculations.count(f) for f in set(calculations)}
    assert counted.pop("timed out") >= expected.pop("timed out")  # a busy machine may be late with a sound call too
    assert counted == expected
    assert all(x.message and "\n" not in x.message for x in rows)


def test_a_campaign_ends_early_where_every_new_calculation_fails(client: Cluster, tmp_path: Path) -> None:
    mood = list(EXPECTED).index("not converged") + 1
    cells = [cell(0, seed=k) for k in range(4)] + [cell(mood, seed=k) for k in range(40)]
    proposals = tuple(Proposal(k, a, ("E", "F", "V"), "training", "start", (1, 1, 1), {}) for k, a in enumerate(cells))
    loop = Once(Decision(0, "all fail but the first", proposals, (), 0, {"model": "power"}, {}, {}, b"state"))
    config = CampaignConfig.from_mapping({"oracle": {"name": "misbehaving:Moody"}, "run": {"folder": str(tmp_path)}})
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database:
        result = run(config, database, client, loop.start)
        record = Record(database)
        campaign = record.campaign("campaign")
        assert campaign is not None
        calls = record.cost(campaign.id).calls
        assert record.streak(campaign.id).calculations >= FRUITLESS
        again = run(config, database, client, loop.start)  # who resumes it has mended something: it tries anew
        assert record.cost(campaign.id).calls > calls
    assert loop.told == []
    assert (result.converged, result.exit_code) == (False, 1)
    assert "nothing succeeds any more" in result.reason
    assert "not converged: " in result.reason
    assert calls <= 28  # six, and what was in flight; its budget would have been 4 + 2 * 40
    assert "nothing succeeds any more" in again.reason


def copper(oracle: str, folder: Path) -> CampaignConfig:
    return CampaignConfig.from_mapping(
        {
            "host": {"lattice_constant": 3.59},
            "target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05},
            "surrogate": {"level": 0},
            "oracle": {"name": oracle},
            "run": {"folder": str(folder)},
        }
    )


def test_a_lie_is_refuted_and_kept_out_and_the_campaign_reaches_its_tolerance(client: Cluster, tmp_path: Path) -> None:
    config = copper("misbehaving:Lying", tmp_path)
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database:
        result = run(config, database, client)
        record = Record(database)
        campaign = record.campaign("campaign")
        assert campaign is not None
        suspect, withdrawn = (record.events(campaign.id, kind) for kind in ("suspect", "withdrawn"))
        decisions = record.decisions(campaign.id)
        (lied,) = (p for p in decisions[2].proposals if p.role == "verification")
        labels = record.labels(lied.calculation)
        costs = record.cost(campaign.id).by_role
        again = run(config, database, client)
        assert [len(record.events(campaign.id, kind)) for kind in ("suspect", "withdrawn")] == [1, 1]
    last = decisions[-1].proposals[-1]
    label = f"{decisions[-1].number}/{last.ordinal}"
    for wrong in ("0/0", "99/0"):
        assert CliRunner().invoke(app, ["withdraw", wrong, "--database", str(tmp_path / "campaign.db")]).exit_code == 2
    said = CliRunner().invoke(app, ["withdraw", label, "--database", str(tmp_path / "campaign.db")])
    assert (said.exit_code, "out of every later fit" in said.stdout) == (0, True)
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}") as database:
        record = Record(database)
        further = run(config, database, client)
        by_hand = record.events(campaign.id, "withdrawn")[1]
        assert (by_hand.data["calculation"], "by hand" in by_hand.message) == (last.calculation, True)
        following = record.decisions(campaign.id)[len(decisions)]
    assert further.converged
    assert [p.role for p in following.proposals] == ["verification"]
    assert following.proposals[0].rung == last.rung
    assert all(not key.startswith(last.calculation) for key in following.inputs)
    assert result.converged
    assert again == result
    assert (lied.role, len(lied.atoms)) == ("verification", 47)
    assert [e.data["calculation"] for e in suspect + withdrawn] == [lied.calculation] * 2
    assert "refuted" in withdrawn[0].message
    assert labels.energy is not None  # its rows stay
    assert costs["confirmation"].calls == 1
    assert decisions[4].proposals[0].role == "verification"
    assert all(not key.startswith(lied.calculation) for d in decisions[4:] for key in d.inputs)


def test_another_electronic_state_is_asked_again_from_its_parents_moments(client: Cluster, tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database:
        result = run(copper("misbehaving:Spinning", tmp_path), database, client)
        record = Record(database)
        campaign = record.campaign("campaign")
        assert campaign is not None
        asked, asked_again = record.decisions(campaign.id)[2:4]
        (first,) = (p for p in asked.proposals if p.role == "verification")
        (again,) = asked_again.proposals
        (event,) = record.events(campaign.id, "another electronic state")
        moments = [record.labels(p.calculation).moments for p in (first, again)]
    assert result.converged
    assert event.data["calculation"] == first.calculation != again.calculation
    assert np.array_equal(first.atoms.positions, again.atoms.positions)
    assert np.array_equal(again.atoms.get_initial_magnetic_moments(), np.ones(47))
    assert np.array_equal(moments, [np.zeros(47), np.ones(47)])
