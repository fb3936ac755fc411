"""Waiting for a database that is away, or full: the campaign waits, what is under way goes on (decisions A7)."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from farfield.db.outage import is_away, is_full, line_of
from farfield.errors import CampaignInterrupted
from farfield.service.runner.listener import Listener
from farfield.service.runner.patience import Patience

__all__ = ["await_database"]


def await_database(fault: DBAPIError, minutes: float, listener: Listener, back: Callable[[str], None]) -> None:
    """Wait until `back`, which writes to the database, goes through; it is told how long that was and why.

    Raises `fault` itself where it does not pass, CampaignInterrupted where the database is away for longer than
    `minutes`.
    """
    began, what = time.monotonic(), "no room on its disk" if is_full(fault) else line_of(fault)
    patience = Patience(60 * minutes)
    if is_away(fault):
        listener.noted("database", f"away ({what}); the campaign waits for it")
    while True:
        try:
            patience.wait(fault)
        except DBAPIError as over:
            if not is_away(over):
                raise
            raise CampaignInterrupted(
                f"the database has been away for {minutes:g} min ({what}); `farfield run` goes on when it is back, "
                "with all answers that workers hold on disk"
            ) from over
        try:
            back(f"away for {time.monotonic() - began:.0f} s ({what}); calls under way went on, none was begun")
            return
        except DBAPIError as again:
            fault = again
