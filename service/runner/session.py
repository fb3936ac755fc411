"""A session: one row per process that may hold claims or a campaign, kept alive by one heartbeat thread.

The beat goes out every 15 s by the database's clock and brings back which attempts to cancel (decisions A5).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from types import TracebackType

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from farfield.db.claims import Claims
from farfield.db.outage import is_away
from farfield.db.processes import process_start
from farfield.errors import RecordError
from farfield.service.runner.host import this_host

__all__ = ["BEAT_SECONDS", "LEASE_BEATS", "Session"]

BEAT_SECONDS = 15.0
LEASE_BEATS = 4
"""Heartbeats that may be missed before a lease runs out (decisions A5)."""

log = logging.getLogger(__name__)


class Session:
    """An open session row; `id` is its key. Close it, or use it as a context.

    `on_cancel` is called in the heartbeat thread with the attempts of this session that are to be cancelled.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        beat: float = BEAT_SECONDS,
        on_cancel: Callable[[frozenset[int]], None] | None = None,
    ) -> None:
        host, boot = this_host()
        self.claims, self.beat, self.on_cancel = claims, beat, on_cancel
        self.id = claims.open_session(host, boot, os.getpid(), process_start(os.getpid()) or 0.0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="farfield-heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(self.beat):
            try:
                cancelled = frozenset(self.claims.heartbeat(self.id))
            except (
                SQLAlchemyError,
                RecordError,
            ) as fault:
                # The database is away for a while: the lease may run out, and results count all the same.
                log.warning("heartbeat missed: %s", str(fault).splitlines()[0])
                continue
            if cancelled and self.on_cancel is not None:
                self.on_cancel(cancelled)

    def close(self) -> None:
        """Stop the heartbeat and release what is still held. Closing twice is fine."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join(timeout=self.beat)
        try:
            self.claims.close_session(self.id)
        except DBAPIError as fault:
            if not is_away(fault):
                raise
            log.warning("the database is away; what session %d holds is free when its lease runs out", self.id)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
