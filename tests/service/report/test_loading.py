"""A campaign stored by the real record comes back as what was told, and its page is the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.errors import RecordError
from farfield.oracles.observation import Observations
from farfield.service.report import load, render, write_report
from farfield.service.report.convergence import true_geometry_errors
from farfield.service.report.data import CampaignData, Label

ENDING_EVENT = {"geometry_error": 0.001, "formation_energy": 1.2345, "calls": 3}


def observations(label: Label) -> Observations:
    values = {"E": label.energy, "F": label.forces, "V": label.virial}
    return Observations({k: v for k, v in values.items() if v is not None})


@pytest.fixture(scope="module")
def database(driven, data: CampaignData, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:  # type: ignore[no-untyped-def]
    opened = open_database(f"sqlite:///{tmp_path_factory.mktemp('record') / 'campaign.db'}", create=True)
    record, claims = Record(opened), Claims(opened)
    campaign = record.create_campaign("tiny", dict(data.config), dict(data.fingerprint))
    session = claims.open_session("host", "boot", 1, 0.0)
    for told, known in zip(driven.told, data.rounds, strict=True):
        keys = record.store_decision(campaign, told.decision)
        for key, label in zip(keys, known.labels, strict=True):
            attempt = claims.new_attempt(key, campaign, label.kinds)
            assert claims.claim(attempt, session)
            claims.finish(attempt, session, observations(label), label.core_seconds)
        if told.estimate is not None:
            record.store_estimate(campaign, known.number, told.estimate.to_json())
    record.event(campaign, "note", "5 < 6 & so on")
    record.set_campaign_state(campaign, data.state, driven.stop.reason)
    yield opened
    opened.close()


def test_what_was_stored_comes_back(database: Database, data: CampaignData) -> None:
    found = load(database, "tiny")
    assert (found.name, found.config, found.fingerprint) == (data.name, data.config, data.fingerprint)
    assert (found.state, found.ending) == (data.state, data.ending)
    assert len(found.rounds) == len(data.rounds)
    for a, b in zip(found.rounds, data.rounds, strict=True):
        assert (a.number, a.reason, a.state) == (b.number, b.reason, b.state)
        assert a.estimate == b.estimate
        for x, y in zip(a.labels, b.labels, strict=True):
            assert (x.kinds, x.role, x.term, x.rung, x.meta) == (y.kinds, y.role, y.term, y.rung, dict(y.meta))
            assert (x.energy, x.failure, x.calls) == (y.energy, None, 1)
            assert x.core_seconds == pytest.approx(y.core_seconds)
            assert (x.atoms.positions == y.atoms.positions).all()
            for p, q in ((x.forces, y.forces), (x.virial, y.virial)):
                assert (p is None) == (q is None)
                assert p is None or np.array_equal(p, np.asarray(q))


def test_page_from_the_database_is_that_of_the_loop(database: Database, data: CampaignData, tmp_path: Path) -> None:
    path = write_report(database, "tiny", tmp_path / "new" / "report.html")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    text = path.read_text(encoding="utf-8")
    assert "5 &lt; 6 &amp; so on" in text
    assert re.findall(r"<td[^>]*>[^<]*", render(data)) == [
        cell for cell in re.findall(r"<td[^>]*>[^<]*", text) if "5 &lt; 6" not in cell
    ]


@pytest.mark.parametrize(("state", "shown"), [("drained", "drained"), ("running", "interrupted")])
def test_a_campaign_nobody_runs_is_not_called_running(database: Database, state: str, shown: str) -> None:
    record = Record(database)
    before = record.campaign("tiny")
    assert before is not None
    record.set_campaign_state(before.id, state)
    try:
        found = load(database, "tiny")
        assert (found.state, found.ended, found.converged) == (shown, False, False)
    finally:
        record.set_campaign_state(before.id, before.state, before.ending)


def test_a_verification_adds_the_true_error(database: Database) -> None:
    record = Record(database)
    stored = record.campaign("tiny")
    assert stored is not None
    assert load(database, "tiny").truth is None
    record.event(stored.id, "verified", "true errors", ENDING_EVENT)
    truth = load(database, "tiny").truth
    assert truth is not None
    assert (truth.geometry, truth.formation_energy, truth.u) == (0.001, 1.2345, None)
    record.event(stored.id, "verified", "of an earlier surrogate", {**ENDING_EVENT, "eta_geo": 77.0})
    assert load(database, "tiny").truth is None


def test_the_relaxed_target_cell_gives_the_true_error_of_every_round(database: Database, data: CampaignData) -> None:
    record, claims = Record(database), Claims(database)
    stored = record.campaign("tiny")
    final = data.final
    assert stored is not None
    assert final is not None
    assert final.snapshot.u is not None
    session = claims.open_session("host", "boot", 2, 0.0)
    noise = np.random.default_rng(3).normal(size=final.snapshot.u.shape)
    for size in (0.02, 0.001):  # on the way, and relaxed
        atoms = data.target.atoms(final.snapshot.u + size * noise)
        key = record.store_calculation(atoms, stored.fingerprint_hash)
        attempt = claims.new_attempt(key, stored.id, ("E", "F"))
        assert claims.claim(attempt, session)
        claims.finish(attempt, session, Observations({"E": -1.0, "F": size * noise}), 2.0)
    geometry = data.target.norm(0.001 * noise)
    record.event(stored.id, "verified", "", {"geometry_error": geometry, "formation_energy": 1.3})
    found = load(database, "tiny")
    assert found.other_cost == (4.0, 2)
    assert found.truth is not None
    assert found.truth.u == pytest.approx(final.snapshot.u + 0.001 * noise, abs=1e-7)
    true = true_geometry_errors(found)
    assert sorted(true) == [r.number for r, _ in data.estimated]
    assert true[data.estimated[-1][0].number] == pytest.approx(geometry, rel=1e-3)
    record.event(stored.id, "verified", "another relaxation", {"geometry_error": 9.0, "formation_energy": 1.3})
    other = load(database, "tiny").truth
    assert other is not None
    assert other.u is None


def test_unknown_campaign_and_unwritable_path_say_what_to_do(database: Database, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="it holds tiny"):
        load(database, "other")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(RecordError, match="give another path"):
        write_report(database, "tiny", blocked / "report.html")
