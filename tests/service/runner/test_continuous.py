"""A campaign in continuous rounds on real workers: it ends within tolerance, loses nothing, and replays (A1)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import select

from farfield.db import schema
from farfield.db.engine import open_database
from farfield.oracles import registry
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
        record, campaign = runner.record, runner.campaign
        decisions = read_decisions(record, campaign)
        answers = [read_answers(record, campaign, d) for d in decisions]
        with database.read() as connection:
            a, o = schema.attempt.c, schema.observation.c
            finished = set(connection.scalars(select(a.id).where(a.state == "finished")))
            labelled = set(connection.scalars(select(o.attempt_id).where(o.detail == "")))
            states = set(connection.scalars(select(a.state)))
    assert finished == labelled  # every acknowledged label is there
    assert states <= {"finished", "withdrawn"}
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
