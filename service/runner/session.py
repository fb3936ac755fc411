"""A session: one row per process that may hold claims or a campaign, kept alive by one heartbeat thread.

The beat goes out every 15 s by the database's clock and brings back which attempts to cancel (decisions A5).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from farfield.db.claims import Claims
from farfield.db.outage import is_away, line_of
from farfield.db.processes import process_start
from farfield.errors import RecordError
from farfield.service.runner.host import this_host

__all__ = ["BEAT_SECONDS", "LEASE_BEATS", "Session"]

BEAT_SECONDS = 15.0
LEASE_BEATS = 4
"""Heartbeats that may be missed before a lease runs out (decisions A5)."""
FORGIVEN_BEATS = 2.5
"""Time between two of our own beats, in beats, after which nobody else is known to be silent: one may fail. Others have
been silent for one beat more at the most, and so for less than a lease."""

log = logging.getLogger(__name__)


class Steady:
    """For how long something has come again and again without a gap longer than `gap` seconds."""

    def __init__(self, gap: float, credit: float) -> None:
        self.gap = gap
        self._credit = credit
        """Seconds for which it is taken to have come before the start."""
        self._since, self._last = _clocks()[1], _clocks()

    def beat(self) -> None:
        """It came."""
        if self._silent():
            self.restart()
        self._last = _clocks()

    def restart(self) -> None:
        """It is known not to have come in between."""
        self._credit, self._since = 0.0, _clocks()[1]

    def seconds(self) -> float:
        """0 in the midst of a longer gap."""
        return 0.0 if self._silent() else self._credit + _clocks()[1] - self._since

    def _silent(self) -> bool:
        return max(now - then for now, then in zip(_clocks(), self._last, strict=True)) > self.gap


def _clocks() -> tuple[float, float]:
    """The second stands still while the host is suspended, the first may be set by somebody."""
    return time.time(), time.monotonic()


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
        self.missed: str | None = None
        """Why heartbeats do not come through, from the second one on that did not."""
        self._misses = 0
        self.steady = Steady(FORGIVEN_BEATS * beat, (LEASE_BEATS - 2) * beat)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="farfield-heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(self.beat):
            try:
                cancelled = frozenset(self.claims.heartbeat(self.id))
            except (SQLAlchemyError, RecordError) as fault:
                # The database is away for a while: the lease may run out, and results count all the same.
                log.warning("heartbeat missed: %s", line_of(fault))
                self._misses += 1
                self.missed = line_of(fault) if self._misses > 1 else None
                continue
            self._misses, self.missed = 0, None
            self.steady.beat()
            if cancelled and self.on_cancel is not None:
                self.on_cancel(cancelled)

    def heard(self) -> float:
        """Seconds for which others would have been heard of, as our own beats came through.

        It begins anew where they did not: the database was away or hung, or this host was suspended. So everybody has a
        lease's time after that to give a sign of life; those who live when a session opens, two beats.
        """
        return self.steady.seconds()

    def forgive(self) -> None:
        """The database has been away, as others have noticed: what was missed until now is explained."""
        self._misses, self.missed = 0, None
        self.steady.restart()

    def silence(self) -> None:
        """Stop the heartbeat, nothing else: what is still held is free when its lease runs out."""
        self._done.set()
        self._thread.join(timeout=max(self.beat, 5.0))  # its connection is given back first

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
