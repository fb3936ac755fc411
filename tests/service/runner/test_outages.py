"""What a controller makes of a database that does not come back."""

from __future__ import annotations

import pytest
from postgres import Server
from sqlalchemy.exc import DBAPIError, IntegrityError
from tiny import until

from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.errors import CampaignInterrupted
from farfield.service.runner.listener import Silent
from farfield.service.runner.outages import await_database
from farfield.service.runner.session import Session

MINUTES = 0.05


class Told(Silent):
    """What the user was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def noted(self, kind: str, message: str) -> None:
        self.lines.append((kind, message))


def asked(database: Database) -> list[str]:
    return Record(database).campaigns()


def test_a_database_that_stays_away_ends_the_run_with_nothing_wrong_in_its_file(server: Server) -> None:
    with open_database(server.url, create=True) as database:
        server.stop("immediate")
        told = Told()
        try:
            with pytest.raises(DBAPIError) as fault:
                asked(database)
            with pytest.raises(CampaignInterrupted, match=f"away for {MINUTES:g} min .*goes on when it is back"):
                await_database(fault.value, MINUTES, told, lambda _: asked(database))
        finally:
            server.start()
        assert [kind for kind, _ in told.lines] == ["database"]
        assert asked(database) == []


def test_a_fault_that_does_not_pass_is_no_outage() -> None:
    wrong = IntegrityError("insert", {}, Exception("twice"))
    with pytest.raises(IntegrityError):
        await_database(wrong, MINUTES, Told(), lambda _: None)


def test_a_session_knows_that_its_heartbeats_do_not_come_through(server: Server) -> None:
    """Where calls are long nothing else asks the database for hours."""
    with open_database(server.url, create=True) as database, Session(Claims(database), beat=0.2) as session:
        assert session.missed is None
        server.stop("immediate")
        try:
            assert until(lambda: session.missed is not None)
        finally:
            server.start()
        assert until(lambda: session.missed is None)
        assert until(lambda: session.heard() > 0)
