"""A campaign in continuous rounds on real workers: it ends within tolerance, loses nothing, and replays (A1)."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from daemons import daemons
from postgres import Server
from processes import comes_to, ends
from slow_emt import campaign_file, started
from sqlalchemy import func, select

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.errors import FarfieldError
from farfield.oracles import registry
from farfield.oracles.oracle import Oracle
from farfield.service.campaign.config import CampaignConfig, ClusterSection
from farfield.service.campaign.continuous import still_open
from farfield.service.campaign.decision import Decision
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.state import State
from farfield.service.runner.clusters import connect
from farfield.service.runner.recording import oracle_info, read_answers, read_decisions, start_loop
from farfield.service.runner.runner import Runner


def test_a_campaign_in_continuous_rounds_replays_from_its_record(tmp_path: Path) -> None:
    config = CampaignConfig.from_mapping(
        {
            "host": {"lattice_constant": 3.59},
            "target": {"size": 5, "tol_geo": 0.05, "tol_energy": 0.05},
            "surrogate": {"level": 0},
            "decisions": {"rounds": "continuous", "speculation": 0.5},
            "run": {"folder": str(tmp_path)},
        },
        base=tmp_path,
    )
    oracle = registry.load("emt")
    with open_database(config.database_url, create=True) as database:
        with connect(ClusterSection(workers=2), one_host=True) as client:
            runner = Runner(config, database, client, oracle, start_loop(config, oracle))
            result = runner.run()
        assert result.converged, result.reason
        holds(config, database, oracle, runner.campaign)


def test_three_kills_of_the_controller_lose_nothing_and_the_campaign_replays(tmp_path: Path) -> None:
    """With calls of several decisions in flight, some of them speculative."""
    more = '[decisions]\nrounds = "continuous"\nspeculation = 0.5\n[surrogate]\nlevel = 0\n'
    file = campaign_file(tmp_path, "busy", seconds=0.2, more=more)
    config = CampaignConfig.load(file)
    path = Path(config.database_url.removeprefix("sqlite:///"))
    for stage in (4, 10, 14):
        process = started(file)
        try:
            comes_to(process, lambda stage=stage: finished(path) >= stage, file.with_suffix(".txt"))
            assert process.poll() is None, file.with_suffix(".txt").read_text(encoding="utf-8")
        finally:
            process.kill()
            process.wait(timeout=60)
    output = file.with_suffix(".txt")
    assert ends(started(file), output) == 0, output.read_text(encoding="utf-8")
    oracle = registry.load(config.oracle.name, config.oracle.parameters, config.base)
    with open_database(config.database_url) as database:
        stored = Record(database).campaign("busy")
        assert stored is not None
        assert stored.state == "converged"
        holds(config, database, oracle, stored.id, lost=6)


def test_faults_of_the_cluster_and_the_database_lose_nothing(server: Server, tmp_path: Path) -> None:
    with daemons(tmp_path / "dask") as cluster, open_database(server.url, create=True) as database:
        for _ in range(2):
            cluster.worker()
        cluster.registered()
        more = f'[cluster]\nscheduler = "{cluster.address}"\n'
        more += '[decisions]\nrounds = "continuous"\nspeculation = 0.5\n[surrogate]\nlevel = 0\n'
        file = campaign_file(tmp_path, "busy", seconds=0.5, url=server.url, more=more)
        output, process = file.with_suffix(".txt"), started(file)

        def worker() -> None:
            pids: list[int] = []

            def found() -> bool:
                pids[:] = [x.holder.pid for x in Claims(database).leases(1) if x.holder is not None]
                return bool(pids)

            comes_to(process, found, output)
            os.kill(pids[0], signal.SIGKILL)

        try:
            for stage, fault in ((3, worker), (7, cluster.scheduler.kill), (11, lambda: server.restart("immediate"))):
                comes_to(process, lambda stage=stage: count(database) >= stage and under_way(database), output)
                assert process.poll() is None, output.read_text(encoding="utf-8")
                fault()
            assert ends(process, output) == 0, output.read_text(encoding="utf-8")
        finally:
            process.kill()
            process.wait(timeout=60)
        config = CampaignConfig.load(file)
        oracle = registry.load(config.oracle.name, config.oracle.parameters, config.base)
        holds(config, database, oracle, 1, lost=3)


def under_way(database: Database) -> bool:
    return any(x.holder is not None for x in Claims(database).leases(1))


def count(database: Database) -> int:
    """Attempts that brought a label so far."""
    with database.read() as connection:
        return connection.scalars(select(func.count()).where(schema.attempt.c.state == "finished")).one()


def finished(path: Path) -> int:
    """Attempts that brought a label so far; -1 before there is a database."""
    if not path.exists():
        return -1
    try:
        with open_database(f"sqlite:///{path}", readonly=True) as database:
            return count(database)
    except FarfieldError:
        return -1  # the tables are being made


def holds(config: CampaignConfig, database: Database, oracle: Oracle, campaign: int, lost: int = 0) -> None:
    """A1 in this mode: every acknowledged label is there, none is paid twice, at most `lost` calls were for nothing;
    each decision follows from its stored inputs."""
    record = Record(database)
    decisions = read_decisions(record, campaign)
    answers = [read_answers(record, campaign, d) for d in decisions]
    with database.read() as connection:
        a, o = schema.attempt.c, schema.observation.c
        answered = set(connection.scalars(select(a.id).where(a.state == "finished")))
        labelled = set(connection.scalars(select(o.attempt_id).where(o.detail == "")))
        paid = Counter(connection.execute(select(a.calculation_id, a.kinds).where(a.state == "finished")))
        states = Counter(connection.scalars(select(a.state)))
        failures = set(connection.scalars(select(a.failure).where(a.failure.is_not(None))))
    assert answered == labelled
    assert set(paid.values()) == {1}
    assert set(states) <= {"finished", "withdrawn", "failed"}
    assert states["failed"] <= lost
    assert failures <= {"worker lost"}
    assert any(p.term == "speculation" for d in decisions for p in d.proposals)
    for n in range(1, len(decisions)):
        made, last = decisions[n], decisions[n - 1]
        read = {key.rpartition("/")[0] for key in made.inputs}
        out = {(int(m), int(k)) for m, k, _ in State.from_bytes(made.state).open}

        def as_of(d: Decision, told: list, out: set = out, read: set = read) -> list:
            return [replace(x, pending=(d.number, x.ordinal) in out, dropped=x.calculation not in read) for x in told]

        loop = Loop.restore(config, oracle_info(oracle), decisions[:n], answers[: n - 1])
        earlier = [(d, as_of(d, told)) for d, told in still_open(loop.state, decisions, answers)]
        loop.tell(last, as_of(last, answers[n - 1]), earlier)
        again = loop.ask()
        assert isinstance(again, Decision)
        assert (again.reason, again.inputs) == (made.reason, made.inputs)
        for p, q in zip(again.proposals, made.proposals, strict=True):
            assert (p.kinds, p.role, p.rung) == (q.kinds, q.role, q.rung)
            assert np.abs(p.atoms.positions - q.atoms.positions).max() <= 1e-6
