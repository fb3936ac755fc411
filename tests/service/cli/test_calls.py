"""`retry` and `cancel`: what they list, what they do, and what they leave alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ase.build import bulk
from typer.testing import CliRunner, Result

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.service.campaign.decision import Decision, Proposal
from farfield.service.cli.app import app

EFV = ("E", "F", "V")


@dataclass
class Case:
    """A decision of four cells: one failed, one running, one waiting, one not begun."""

    path: Path
    record: Record
    claims: Claims
    campaign: int
    keys: list[str]
    attempts: list[int]

    def call(self, *arguments: str) -> Result:
        done = CliRunner().invoke(app, [*arguments, "--database", str(self.path)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def listed(self, *arguments: str) -> list[str]:
        return [json.loads(line)["key"] for line in self.call(*arguments, "--json").stdout.splitlines()]

    def states(self) -> list[str]:
        return list(self.claims.states(self.attempts).values())


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    cells = []
    for k in range(4):
        cells.append(bulk("Cu", cubic=True) * (1, 1, 1 + k % 2))
        cells[-1].positions[0] += 0.01 * (k + 1)
    roles = ("training", "training", "strain", "verification")
    proposals = tuple(
        Proposal(k, a, EFV, role, "core", (1, 1, 1 + k % 2), {})
        for k, (a, role) in enumerate(zip(cells, roles, strict=True))
    )
    path = tmp_path / "record.db"
    with open_database(f"sqlite:///{path}", create=True) as database:
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("first", {}, {"adapter": "emt"})
        keys = record.store_decision(campaign, Decision(0, "why", proposals, (), 0, {}, {}, {}, b"state"))
        session = claims.open_session("here", "boot", os.getpid(), 1.0)
        attempts = [claims.new_attempts(campaign, [(k, EFV)])[0] for k in keys[:3]]
        for attempt in attempts[:2]:
            assert claims.claim(attempt, session)
        claims.fail(attempts[0], "timed out", "it took too long", 1.0)
        yield Case(path, record, claims, campaign, keys, attempts)


def test_a_cancel_lists_first_and_acts_when_told(case: Case) -> None:
    before = case.states()
    assert case.listed("cancel", "role=training or role=strain") == case.keys[:3]
    said = case.call("cancel", "role=strain")
    assert "1 calculation would be cancelled; say --yes" in said.stdout
    assert case.states() == before
    assert case.listed("cancel", "role=training or role=strain", "--yes") == case.keys[:3]
    assert case.states() == ["failed", "running", "withdrawn"]
    missing = {m.calculation: m for m in case.record.missing(case.campaign, 0)}
    assert [missing[k].cancelled for k in case.keys] == [True, True, True, False]
    case.claims.fail(case.attempts[1], "crashed", "killed", 1.0)  # its worker obeys
    assert case.states() == ["failed", "withdrawn", "withdrawn"]
    assert "nothing to cancel" in case.call("cancel", "role=strain", "--yes").stdout


def test_a_retry_takes_failed_and_cancelled_ones_and_no_others(case: Case) -> None:
    assert case.listed("retry", "", "--dry-run") == case.keys[:1]
    assert case.listed("retry", 'failure="crashed"') == []
    assert case.record.missing(case.campaign, 0)[0].failures == {"timed out": 1}
    assert case.listed("retry", 'failure="timed out"') == case.keys[:1]
    assert case.record.missing(case.campaign, 0)[0].failures == {}
    case.call("cancel", "role=verification", "--yes")
    assert case.listed("retry", "role=verification") == case.keys[3:]
    assert not any(m.cancelled for m in case.record.missing(case.campaign, 0))
    kinds = [e.kind for e in case.record.events(case.campaign)]
    assert kinds == ["retry", "cancel", "retry"]


@pytest.mark.parametrize("verb", [("cancel",), ("retry",)])
def test_a_faulty_query_is_one_line_and_does_nothing(case: Case, verb: tuple[str, ...]) -> None:
    done = case.call(*verb, "natomz<3")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("farfield: ")
    assert case.record.events(case.campaign) == []
