"""The runner with decisions from a list: real oracle, real sandbox, real SQLite, a real cluster."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from bench import Bench, ListLoop, attempts, cells, decision
from sqlalchemy import select

from farfield.db import schema
from farfield.oracles import registry
from farfield.service.campaign.config import ClusterSection
from farfield.service.campaign.decision import Decision, Stop
from farfield.service.runner.clusters import connect
from farfield.service.runner.host import this_host
from farfield.service.runner.listener import Progress, Silent
from farfield.service.runner.recording import read_decisions


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


def test_failures_spend_their_class_and_are_told(bench: Bench) -> None:
    unknown = bulk("Si", cubic=True)  # EMT has no silicon: an input error, never tried twice
    loop = ListLoop([decision(0, [*cells(6, 1), unknown])])
    assert bench.runner(loop).run().converged
    good, bad = loop.told[0]
    assert good.failure is None
    assert (bad.failure, bad.energy) == ("input error", None)
    assert attempts(bench) == {"finished": 1, "failed: input error": 1}


def test_a_call_is_charged_with_the_cores_of_the_cluster(bench: Bench) -> None:
    many = 10_000  # so that what the call took with them is more than the attempt lasted
    assert bench.runner(ListLoop([decision(0, cells(8, 2))]), cluster={"cores": many}).run().converged
    with bench.database() as database, database.read() as connection:
        a = schema.attempt.c
        rows = connection.execute(select(a.cores, a.core_seconds, (a.ended - a.started).label("lasted"))).all()
    assert [row.cores for row in rows] == [many, many]
    assert all(row.lasted < row.core_seconds <= many * row.lasted for row in rows)


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
