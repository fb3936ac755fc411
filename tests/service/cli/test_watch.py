"""`farfield watch` at a terminal: it follows a campaign through an outage of its database, and ends with it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

from postgres import served
from sqlalchemy.exc import DBAPIError
from tiny import until

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.service.runner.session import Session


class Terminal:
    """A command at a terminal of its own, and all that it has drawn so far."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "150", "LINES": "40", "TERM": "xterm"}
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self.drawn = ""

    def shows(self, text: str) -> bool:
        """Whether it comes to draw `text`; what was drawn before it is forgotten then."""

        def seen() -> bool:
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.drawn += os.read(self._ours, 1 << 16).decode("utf-8", "replace")
                except OSError:  # the other end is closed
                    return text in self.drawn
            return text in self.drawn

        found = until(seen, 60)
        self.drawn = self.drawn.partition(text)[2] if found else self.drawn
        return found

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


def test_watch_outlasts_an_outage_and_ends_with_the_campaign() -> None:
    with served() as server, open_database(server.url, create=True) as database:
        record = Record(database)
        campaign = record.create_campaign("c", {}, {"adapter": "emt", "version": 1})
        place = ("--database", server.url, "--campaign", "c")
        with (
            Session(Claims(database), beat=0.5) as session,
            Terminal(sys.executable, "-m", "farfield", "watch", *place, "--interval", "0.2") as terminal,
        ):
            assert record.lease_campaign(campaign, session.id) is None
            assert terminal.shows("c: running, run by process"), terminal.drawn
            record.event(campaign, "note", "the first word")
            assert terminal.shows("note: the first word"), terminal.drawn
            server.stop()
            assert terminal.shows("the database is away"), terminal.drawn
            server.start()
            assert until(lambda: _noted(record, campaign), 30)
            assert terminal.shows("note: the last word"), terminal.drawn
            record.set_campaign_state(campaign, "ended", "all was bought")
            record.release_campaign(campaign, session.id)
            session.close()
            assert terminal.shows("nobody runs it"), terminal.drawn
            assert terminal.process.wait(timeout=60) == 0


def _noted(record: Record, campaign: int) -> bool:
    try:
        record.event(campaign, "note", "the last word")
    except DBAPIError:
        return False
    return True
