"""The runner with decisions from a list: real oracle, real sandbox, real SQLite, a real cluster."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from loops import Unlearned
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.errors import CampaignError
from farfield.oracles import registry
from farfield.service.campaign.config import CampaignConfig, ClusterSection
from farfield.service.campaign.decision import Answer, Decision, Proposal, Stop
from farfield.service.runner import session as session_module
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.clusters import connect
from farfield.service.runner.host import this_host
from farfield.service.runner.listener import Progress, Silent
from farfield.service.runner.recording import read_decisions
from farfield.service.runner.runner import Runner
from farfield.service.runner.session import BEAT_SECONDS, LEASE_BEATS, Session


class ListLoop(Unlearned):
    """Hands out decisions from a list and keeps what it is told."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.decisions = list(decisions)
        self.told: list[list[Answer]] = []
        self.resumed = 0

    def start(self, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]) -> ListLoop:
        self.told = [list(a) for a in answers]
        self.resumed = len(decisions)
        return self

    def ask(self) -> Decision | Stop:
        if len(self.told) < len(self.decisions):
            return self.decisions[len(self.told)]
        return Stop("the list is empty", True, 0)

    def tell(self, decision: Decision, answers: Sequence[Answer]) -> None:
        assert decision.number == len(self.told)
        self.told.append(list(answers))


def decision(number: int, cells: Sequence[Atoms], kinds: tuple[str, ...] = ("E", "F", "V")) -> Decision:
    proposals = tuple(Proposal(k, a, kinds, "training", "start", (1, 1, 1), {}) for k, a in enumerate(cells))
    return Decision(number, f"decision {number}", proposals, (), 0, {"model": "power"}, {}, {}, b"state")


def cells(seed: int, count: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += np.round(0.05 * rng.normal(size=(4, 3)), 8)
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def client() -> Iterator[Cluster]:
    with connect(ClusterSection(workers=2), one_host=True) as cluster:
        yield cluster


class Bench:
    """A campaign file's worth of settings on a fresh database."""

    def __init__(self, folder: Path, client: Cluster) -> None:
        self.folder, self.client = folder, client

    def config(self, **sections: Any) -> CampaignConfig:
        return CampaignConfig.from_mapping({"run": {"folder": str(self.folder)}, **sections}, base=self.folder)

    def database(self) -> Database:
        return open_database(f"sqlite:///{self.folder / 'campaign.db'}", create=True)

    def runner(self, loop: ListLoop, **sections: Any) -> Runner:
        config = self.config(**sections)
        oracle = registry.load(config.oracle.name, config.oracle.parameters)
        return Runner(config, self.database(), self.client, oracle, loop.start)


@pytest.fixture
def bench(tmp_path: Path, client: Cluster) -> Bench:
    return Bench(tmp_path, client)


def attempts(bench: Bench, name: str = "campaign") -> dict[str, int]:
    with bench.database() as database:
        record = Record(database)
        stored = record.campaign(name)
        assert stored is not None
        return {state: share.calls for state, share in record.cost(stored.id).by_state.items()}


def test_answers_are_the_oracles_and_every_call_is_recorded(bench: Bench) -> None:
    given = [cells(0, 3), cells(1, 2)]
    loop = ListLoop([decision(k, g) for k, g in enumerate(given)])
    result = bench.runner(loop).run()
    assert (result.exit_code, result.converged) == (0, True)
    oracle = registry.load("emt")
    for group, told in zip(given, loop.told, strict=True):
        for atoms, answer in zip(group, told, strict=True):
            direct = oracle.evaluate(atoms, ("E", "F", "V")).values
            assert answer.energy == direct["E"]
            np.testing.assert_array_equal(answer.forces, direct["F"])
            np.testing.assert_array_equal(answer.virial, direct["V"])
    assert attempts(bench) == {"finished": 5}
    assert not list((bench.folder / "scratch" / "answers").iterdir())


def test_nothing_answered_is_bought_again(bench: Bench) -> None:
    group = cells(2, 3)
    bench.runner(ListLoop([decision(0, group)])).run()
    again = ListLoop([decision(0, group), decision(1, group)])
    bench.runner(again).run()
    assert again.resumed == 1
    assert len(again.told) == 2
    assert attempts(bench) == {"finished": 3}
    other = ListLoop([decision(0, group)])
    bench.runner(other, campaign={"name": "other"}).run()
    assert attempts(bench, "other") == {}
    assert [a.energy for a in other.told[0]] == [a.energy for a in again.told[0]]


def test_a_decision_is_stored_before_anything_is_bought(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = ListLoop([decision(0, cells(3, 2))])
    runner = bench.runner(loop)

    def check(*_: object) -> None:
        assert len(read_decisions(runner.record, runner.campaign)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.claims, "new_attempts", check)
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert attempts(bench) == {}
    resumed = ListLoop([decision(0, cells(99, 9))])  # another list: the stored decision is read, not asked again
    bench.runner(resumed).run()
    assert len(resumed.told[0]) == 2


def test_a_spent_call_budget_ends_with_code_3_and_a_larger_one_resumes(bench: Bench) -> None:
    group = cells(4, 4)
    result = bench.runner(ListLoop([decision(0, group)]), budget={"calls": 3}).run()
    assert result.exit_code == 3
    assert "3 oracle calls" in result.reason
    assert result.reason.endswith("there is no estimate yet")
    assert attempts(bench) == {"finished": 3}
    result = bench.runner(ListLoop([decision(0, group)]), budget={"calls": 4}).run()
    assert result.exit_code == 3
    assert attempts(bench) == {"finished": 4}
    assert bench.runner(ListLoop([decision(0, group)]), budget={"calls": 5}).run().exit_code == 0


@pytest.mark.parametrize("how", ["signal", "database"])
def test_draining_buys_nothing_new_and_resumes(bench: Bench, how: str) -> None:
    loop = ListLoop([decision(k, cells(10 + k, 2)) for k in range(3)])
    runner = bench.runner(loop)

    class Stopper:
        def decided(self, decision: Decision) -> None:
            pass

        def progressed(self, progress: object) -> None:
            pass

        def concluded(self, decision: Decision, estimate: object, core_seconds: float) -> None:
            if how == "signal":
                runner.drain("Ctrl-C")
            else:
                assert runner.record.request_stop("campaign")

        def noted(self, kind: str, message: str) -> None:
            pass

    runner.listener = Stopper()  # type: ignore[assignment]
    result = runner.run()
    assert (result.exit_code, result.drained) == (0, True)
    assert attempts(bench) == {"finished": 2}
    whole = ListLoop(loop.decisions)
    assert bench.runner(whole).run().converged
    assert attempts(bench) == {"finished": 6}


def test_a_second_controller_is_refused(bench: Bench) -> None:
    loop = ListLoop([decision(0, cells(5, 1))])
    bench.runner(loop).run()
    with bench.database() as database, Session(Claims(database)) as session:
        record = Record(database)
        stored = record.campaign("campaign")
        assert stored is not None
        assert record.lease_campaign(stored.id, session.id) is None
        with pytest.raises(CampaignError, match="already run by process"):
            bench.runner(ListLoop([])).run()
    assert bench.runner(ListLoop([decision(0, cells(5, 1))])).run().converged


class Noted(Silent):
    """What the user was told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def noted(self, kind: str, message: str) -> None:
        self.said.append((kind, message))


def test_a_database_that_takes_no_heartbeats_is_told_once(bench: Bench) -> None:
    runner = bench.runner(ListLoop([]))
    assert runner.run().converged
    runner.listener = runner.diary.listener = told = Noted()
    for missed in (None, "disk is full", "disk is full", None, None):
        runner._session.missed = missed
        runner._say_missed()
    assert told.said == [
        ("database", "cannot be written to (disk is full); answers wait until it can"),
        ("database", "can be written to again; before: disk is full"),
    ]


def test_what_the_cluster_says_outlasts_an_outage_of_the_database(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = bench.runner(ListLoop([]))
    assert runner.run().converged
    saying = iter([["first", "second"], ["third"]])
    monkeypatch.setattr(runner.cluster, "tend", lambda: next(saying))
    monkeypatch.setattr(runner.tenure, "check", lambda: None)
    event, faults = runner.record.event, [OperationalError("insert", {}, Exception("gone"))]

    def away_at_first(*args: Any) -> None:
        if faults:
            raise faults.pop()
        event(*args)

    monkeypatch.setattr(runner.record, "event", away_at_first)
    runner._swept = -1e9
    with pytest.raises(OperationalError):
        runner._sweep()
    runner._swept = -1e9
    runner._sweep()
    assert [e.message for e in runner.record.events(runner.campaign, "cluster")] == ["first", "second", "third"]


def test_who_was_overtaken_leaves_the_campaign_as_it_is(bench: Bench) -> None:
    """Another took it while this host was suspended, and has ended since."""
    runner = bench.runner(ListLoop([decision(0, cells(5, 1))]))
    assert runner.run().converged
    with pytest.raises(CampaignError, match="taken over by another process"):
        runner.tenure.check()
    runner.tenure.interrupted("too late")
    with bench.database() as database:
        stored = Record(database).campaign("campaign")
    assert stored is not None
    assert stored.state == "converged"


def test_other_settings_are_refused_on_resume(bench: Bench) -> None:
    bench.runner(ListLoop([])).run()
    with pytest.raises(CampaignError, match=r"target\.size"):
        bench.runner(ListLoop([]), target={"size": 9}).run()


def test_failures_spend_their_class_and_are_told(bench: Bench) -> None:
    unknown = bulk("Si", cubic=True)  # EMT has no silicon: an input error, never tried twice
    loop = ListLoop([decision(0, [*cells(6, 1), unknown])])
    assert bench.runner(loop).run().converged
    good, bad = loop.told[0]
    assert good.failure is None
    assert (bad.failure, bad.energy) == ("input error", None)
    assert attempts(bench) == {"finished": 1, "failed: input error": 1}


SLOW = """
import time
from ase.calculators.emt import EMT

class Slow(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(6.0)
        super().calculate(*args, **kwargs)
"""


def test_a_call_that_ran_out_of_time_gets_twice_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    section = {"name": "ase", "parameters": {"calculator": "slow.Slow", "analytic": True}, "wall_time": 5.0}
    with connect(ClusterSection(workers=1), one_host=True) as cluster:
        bench = Bench(tmp_path, cluster)
        loop = ListLoop([decision(0, cells(11, 1), ("E",))])
        assert bench.runner(loop, oracle=section).run().converged
    assert loop.told[0][0].energy is not None
    assert attempts(bench) == {"failed: timed out": 1, "finished": 1}


def test_another_version_of_the_oracle_is_refused_by_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.runner(ListLoop([])).run()
    runner = bench.runner(ListLoop([]))
    monkeypatch.setattr(runner, "fingerprint", "0" * 64)
    with pytest.raises(CampaignError, match="--accept-version"):
        runner.run()


def test_an_answer_left_on_disk_is_taken_in(bench: Bench) -> None:
    from farfield.db import answers

    group = cells(7, 1)
    loop = ListLoop([decision(0, group)])
    runner = bench.runner(loop)
    oracle = registry.load("emt")
    record, claims = runner.record, runner.claims
    campaign = record.create_campaign("campaign", json.loads(runner.config.to_json()), oracle.fingerprint())
    key = record.store_decision(campaign, loop.decisions[0])[0]
    attempt = claims.new_attempt(key, campaign, ("E", "F", "V"))
    session = claims.open_session(*this_host(), 2**22 + 7, 1.0)  # a process that is gone
    assert claims.claim(attempt, session)
    observed = oracle.evaluate(group[0], ("E", "F", "V"))
    folder = bench.folder / "scratch" / "answers"
    answers.write(folder, answers.AnswerFile(attempt, key, session, ("E", "F", "V"), 1.5, observed))
    (folder / "half.answer").write_bytes(b"half a fi")
    assert runner.run().converged
    assert loop.told[0][0].energy == observed.values["E"]
    assert record.cost(campaign).calls == 1
    assert [p.name for p in folder.iterdir()] == ["half.damaged"]


def test_a_killed_worker_costs_one_attempt_and_no_answer(bench: Bench) -> None:
    group = [bulk("Cu", cubic=True) * (6, 6, 6) for _ in range(4)]
    for k, atoms in enumerate(group):
        atoms.positions[k] += 0.1
    loop = ListLoop([decision(0, group, ("E", "F"))])
    runner = bench.runner(loop)
    killed: list[int] = []

    class Killer(Silent):
        def progressed(self, progress: Progress) -> None:
            if killed or not progress.in_flight:
                return
            holders = [x.holder for x in runner.claims.leases(runner.campaign) if x.holder is not None]
            if holders:
                killed.append(holders[0].pid)
                os.kill(killed[0], signal.SIGKILL)

    runner.listener = Killer()
    assert runner.run().converged
    assert killed
    assert attempts(bench)["finished"] == 4
    assert attempts(bench).get("failed: worker lost", 0) <= 1
    assert all(a.energy is not None and a.failure is None for a in loop.told[0])
    assert [e.kind for e in runner.record.events(runner.campaign)].count("worker lost") >= 1


def test_an_answer_on_disk_of_a_worker_that_died_is_not_bought_again(bench: Bench) -> None:
    from farfield.db import answers

    atoms = bulk("Cu", cubic=True) * (10, 10, 10)
    atoms.positions[0] += 0.1
    oracle = registry.load("emt")
    observed = oracle.evaluate(atoms, ("E", "F"))
    loop = ListLoop([decision(0, [atoms], ("E", "F"))])
    runner = bench.runner(loop)
    died: list[int] = []

    class Killer(Silent):
        def progressed(self, progress: Progress) -> None:
            for lease in [] if died else runner.claims.leases(runner.campaign):
                if lease.holder is not None:
                    os.kill(lease.holder.pid, signal.SIGKILL)
                    died.append(lease.attempt)
                    answers.write(
                        bench.folder / "scratch" / "answers",
                        answers.AnswerFile(
                            lease.attempt, lease.calculation, lease.holder.session, ("E", "F"), 1.0, observed
                        ),
                    )

    runner.listener = Killer()
    assert runner.run().converged
    assert died
    assert attempts(bench) == {"finished": 1}
    assert loop.told[0][0].energy == observed.values["E"]


def test_a_worker_that_cannot_write_its_answer_to_a_file_tells_the_database(bench: Bench) -> None:
    (bench.folder / "scratch").mkdir()
    (bench.folder / "scratch" / "answers").write_text("a file where the folder should be")
    loop = ListLoop([decision(0, cells(9, 1))])
    bench.runner(loop).run()
    assert loop.told[0][0].energy is not None
    assert attempts(bench) == {"finished": 1}


def test_a_campaign_that_ended_without_answers_tries_again_when_it_is_resumed(bench: Bench) -> None:
    class Strict(ListLoop):
        def ask(self) -> Decision | Stop:
            failed = any(a.failure for told in self.told for a in told)
            return Stop("no answer", False, 1) if failed else super().ask()

    given = [decision(0, cells(9, 1))]
    assert bench.runner(Strict(given), oracle={"memory": 1}).run().exit_code == 1
    spent = attempts(bench)["failed: out of memory"]
    mended = Strict(given)
    assert bench.runner(mended).run().converged
    assert mended.told[0][0].energy is not None
    assert attempts(bench) == {"failed: out of memory": spent, "finished": 1}


@pytest.mark.parametrize("suspended", [True, False])
def test_a_controller_that_could_not_beat_itself_waits_for_signs_of_life(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, suspended: bool
) -> None:
    """Its host was suspended, or the database hung: all its own workers seem to have been silent meanwhile, by the
    database's clock."""
    runner = bench.runner(ListLoop([decision(0, cells(21, 1))]))
    assert runner.run().converged
    clocks = [1000.0, 1000.0]
    monkeypatch.setattr(session_module, "_clocks", lambda: tuple(clocks))

    def later(seconds: float, mono: float | None = None) -> None:
        clocks[0] += seconds
        clocks[1] += seconds if mono is None else mono

    with bench.database() as database, Session(Claims(database), beat=BEAT_SECONDS) as session:
        record, claims = Record(database), Claims(database)
        key = record.store_calculation(cells(22, 1)[0], runner.fingerprint)
        assert record.lease_campaign(runner.campaign, session.id) is None
        runner.tenure.session, runner._session = session.id, session
        attempt = claims.new_attempt(key, runner.campaign, ("E",))
        assert claims.claim(attempt, session.id)
        s = schema.worker_session

        def state() -> str:
            """After a look at the leases, by which our own workers have been silent for long."""
            with database.write() as connection:
                connection.execute(update(s).where(s.c.id == session.id).values(beat=s.c.beat - 100.0))
            runner._swept = 0.0
            runner._sweep()
            return claims.states([attempt])[attempt]

        def beats(count: int) -> None:
            for _ in range(count):
                later(BEAT_SECONDS)
                session.steady.beat()

        assert state() == "running"  # who lives has two beats' time from the start
        later(100.0, 0.0 if suspended else None)
        assert state() == "running"
        beats(LEASE_BEATS)
        assert state() == "running"  # a lease has not passed since the first that came through
        beats(2)
        assert state() == "failed"
