"""`farfield plan` on a record: it tells how the campaign stands and what is before it, and leaves the record alone."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from typer.testing import CliRunner, Result

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Decision, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.cli.app import app
from farfield.service.cli.prospect import Standing, show, standing
from farfield.service.runner.recording import oracle_info

TEXT = """
[campaign]
name = "cu"
[host]
lattice_constant = 3.59
[target]
size = 5
tol_geo = 0.0025
tol_energy = 0.05
[surrogate]
level = 2
[budget]
calls = 60
"""
PARTIAL = 4
"""Decisions told in the partial record; the last of them is the second verification."""


def seconds(natoms: int) -> float:
    """What a call is said to take."""
    return 2.0 + 0.01 * max(natoms, 8) ** 1.5


def play(file: Path, decisions: int, *, answered: int | None = None) -> Decision | Stop:
    """Run the campaign of `file` in this process for some decisions; of the last, only `answered` proposals."""
    config, oracle = CampaignConfig.load(file), EMTOracle()
    config.folder.mkdir(parents=True, exist_ok=True)
    with open_database(config.database_url, create=True) as database:
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("cu", json.loads(config.to_json()), oracle.fingerprint())
        session = claims.open_session("here", "boot", 1, time.time())
        loop = Loop(config, oracle_info(oracle))
        while isinstance(decision := loop.ask(), Decision) and decision.number < decisions:
            keys = record.store_decision(campaign, decision)
            part = answered if decision.number == decisions - 1 else None
            for p, key in list(zip(decision.proposals, keys, strict=True))[:part]:
                attempt = claims.new_attempt(key, campaign, p.kinds)
                assert claims.claim(attempt, session)
                claims.finish(attempt, session, oracle.evaluate(p.atoms, p.kinds), seconds(len(p.atoms)))
            if part is not None:
                return decision
            loop.tell(decision, record.answers(campaign, decision.number))
            if (estimate := loop.estimate()) is not None:
                record.store_estimate(campaign, decision.number, estimate.to_json())
        return decision


def call(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FARFIELD_DATABASE", raising=False)
        result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def made(folder: Path, decisions: int, *, answered: int | None = None) -> Decision | Stop:
    (folder / "cu.toml").write_text(TEXT, encoding="utf-8")
    return play(folder / "cu.toml", decisions, answered=answered)


@dataclass(frozen=True)
class Partial:
    """A campaign that stands between two decisions: `following` is what the loop that made it asked for next."""

    folder: Path
    following: Decision
    plan: dict[str, Any]
    standing: Standing

    @property
    def config(self) -> CampaignConfig:
        return CampaignConfig.load(self.folder / "cu.toml")


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Partial:
    folder = tmp_path_factory.mktemp("partial")
    following = made(folder, PARTIAL)
    assert isinstance(following, Decision)
    before, there = (folder / "runs/cu/campaign.db").read_bytes(), sorted(folder.rglob("*"))
    done = call(folder, "plan", "cu.toml", "--json")
    assert done.exit_code == 0, done.output
    config = CampaignConfig.load(folder / "cu.toml")
    with open_database(config.database_url, readonly=True) as database:
        found = standing(config, EMTOracle(), database)
    assert (folder / "runs/cu/campaign.db").read_bytes() == before  # nothing is written, here or anywhere
    assert sorted(folder.rglob("*")) == there
    return Partial(folder, following, json.loads(done.stdout), found)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stop]:
    folder = tmp_path_factory.mktemp("finished")
    stop = made(folder, 100)
    assert isinstance(stop, Stop)
    assert stop.converged
    return folder, stop


def test_the_next_decision_is_the_loops(partial: Partial) -> None:
    plan, following = partial.plan, partial.following
    assert (plan["next"]["decision"], plan["next"]["reason"]) == (PARTIAL, following.reason)
    assert not plan["next"]["under_way"]
    assert plan["next"]["calls"] == len(following.proposals)
    expected = sum(seconds(len(p.atoms)) for p in following.proposals)
    assert plan["next"]["core_seconds"] == pytest.approx(expected, rel=0.1)


def test_the_curve_begins_at_what_was_spent_and_goes_up_the_ladder(partial: Partial) -> None:
    plan = partial.plan
    status = json.loads(call(partial.folder, "status", "cu.toml", "--json").stdout)
    assert (plan["calls"], plan["core_seconds"]) == (status["calls"], pytest.approx(status["core_seconds"]))
    assert [e["rung"] for e in plan["estimates"]] == [[2, 2, 3], [2, 3, 3]]
    steps = plan["forecast"]["steps"]
    assert [s["rung"]["size"] for s in steps] == [[3, 3, 3], [3, 3, 4], [3, 4, 4], [4, 4, 4]]
    assert partial.following.proposals[0].rung == (3, 3, 3)
    spent = plan["core_seconds"]
    for s in steps:
        assert s["rung"]["cost"] == pytest.approx(seconds(s["rung"]["natoms"]), rel=0.1)
        spent += s["rung"]["cost"]
        assert s["spent"] == pytest.approx(spent)
        assert s["geometry"]["low"] < s["geometry"]["value"] < s["geometry"]["high"]
    assert plan["budget_left"] == {"calls": 60 - plan["calls"]}
    assert {r["purchase"]["term"] for r in plan["reliefs"]} == {"fc", "v", "fold"}


def test_what_happened_lies_where_the_forecast_said(partial: Partial, finished: tuple[Path, Stop]) -> None:
    """And the end says so: nothing is next, nothing is forecast."""
    folder, stop = finished
    plan, later = partial.plan, json.loads(call(folder, "plan", "cu.toml", "--json").stdout)
    assert later["next"] == {"reason": stop.reason}
    assert (later["forecast"], later["reliefs"]) == (None, [])
    assert later["estimates"][: len(plan["estimates"])] == plan["estimates"]
    truth = later["estimates"][len(plan["estimates"]) :]
    assert truth
    for e, s in zip(truth, plan["forecast"]["steps"], strict=False):
        assert e["rung"] == s["rung"]["size"]
        g = s["geometry"]
        assert g["low"] ** 2 / g["value"] < e["eta_geo"] < g["high"] ** 2 / g["value"]  # two standard deviations
    best, worst = plan["forecast"]["best"], plan["forecast"]["worst"]
    assert best["calls"] <= len(truth)
    assert worst is None or len(truth) <= worst["calls"]


def test_a_decision_under_way_is_shown_with_what_is_missing(tmp_path: Path) -> None:
    decision = made(tmp_path, 1, answered=3)
    assert isinstance(decision, Decision)
    plan = json.loads(call(tmp_path, "plan", "cu.toml", "--json").stdout)
    assert (plan["next"]["decision"], plan["next"]["under_way"]) == (0, True)
    assert plan["next"]["calls"] == len(decision.proposals) - 3
    assert plan["forecast"] is None
    shown = call(tmp_path, "plan", "cu.toml").stdout
    assert "no forecast yet" in shown
    assert "under way: decision 0" in shown


def test_people_read_it_in_eighty_columns(partial: Partial, capsys: pytest.CaptureFixture[str]) -> None:
    show(partial.standing, partial.config, Path("cu.toml"))
    text = capsys.readouterr().out
    assert "needed to reach the tolerance:" in text
    assert partial.following.reason in text
    assert "farfield run cu.toml goes on" in text
    table = [line for line in text.splitlines() if line.startswith(("2x", "3x", "4x"))]
    assert len(table) == 6
    assert max(map(len, table)) <= 80
    assert "…" not in text


def test_a_tolerance_beyond_the_target_cell_is_said(partial: Partial, capsys: pytest.CaptureFixture[str]) -> None:
    prospect = partial.standing.prospect
    assert prospect.forecast is not None
    short = replace(prospect, forecast=replace(prospect.forecast, need=None, best=None, worst=None))
    show(replace(partial.standing, prospect=short), partial.config, Path("cu.toml"))
    assert "not reached before the target cell (499 atoms)" in capsys.readouterr().out
    poor = partial.config.model_copy(update={"budget": partial.config.budget.model_copy(update={"calls": 1})})
    show(partial.standing, poor, Path("cu.toml"))
    assert "[budget] leaves 0 calls, too few" in capsys.readouterr().out


def test_picture_and_next_cells_are_written_where_asked(partial: Partial, tmp_path: Path) -> None:
    picture, cells = tmp_path / "new" / "forecast.png", tmp_path / "next.xyz"
    done = call(partial.folder, "plan", "cu.toml", "--figure", str(picture), "--cells", str(cells))
    assert done.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = read(cells, index=":")
    assert [len(a) for a in found] == [len(p.atoms) for p in partial.following.proposals]
    assert found[0].info["config_type"] == partial.following.proposals[0].role


def test_wrong_wishes_are_one_line(partial: Partial, tmp_path: Path) -> None:
    def refused(folder: Path, *more: str) -> str:
        done = call(folder, "plan", "cu.toml", *more)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        return done.stderr

    assert ".png" in refused(partial.folder, "--figure", str(tmp_path / "forecast.docx"))
    text = (partial.folder / "cu.toml").read_text(encoding="utf-8")
    (tmp_path / "cu.toml").write_text(text, encoding="utf-8")
    assert "farfield run" in refused(tmp_path, "--figure", str(tmp_path / "forecast.png"))  # no record here
    shutil.copytree(partial.folder / "runs", tmp_path / "runs")
    (tmp_path / "cu.toml").write_text(text.replace("size = 5", "size = 6"), encoding="utf-8")
    assert "target.size" in refused(tmp_path)


def test_a_withdrawal_that_was_asked_for_counts_and_stays_a_wish(partial: Partial, tmp_path: Path) -> None:
    shutil.copytree(partial.folder, tmp_path, dirs_exist_ok=True)
    with open_database(f"sqlite:///{tmp_path / 'runs/cu/campaign.db'}") as database:
        record = Record(database)
        stored = record.campaign("cu")
        assert stored is not None
        first = next(p for p in record.decisions(stored.id)[2].proposals if p.role == "verification")
        record.event(stored.id, "withdraw", "wrong label", {"calculation": first.calculation})
        events = len(record.events(stored.id))
    plan = json.loads(call(tmp_path, "plan", "cu.toml", "--json").stdout)
    assert [e["rung"] for e in plan["estimates"]] == [[2, 3, 3]]  # the estimate that used it is gone
    with open_database(f"sqlite:///{tmp_path / 'runs/cu/campaign.db'}", readonly=True) as database:
        assert len(Record(database).events(stored.id)) == events
