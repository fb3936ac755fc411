"""What came back, and what it tells of workers, hosts and the cluster. The worker is suspected before the task."""

from __future__ import annotations

import logging
from collections.abc import Callable

from farfield.db.claims import Claims
from farfield.errors import CampaignError
from farfield.service.runner.cluster import host_of
from farfield.service.runner.diary import Diary
from farfield.service.runner.nodes import SUSPECT
from farfield.service.runner.submission import Return, Submission

__all__ = ["DYING", "Losses"]

log = logging.getLogger("farfield.controller")

DYING = 20
"""Waves of lost tasks in a row, without one that came back, after which the cluster is held to be unfit. A wave is what
was under way together: the end of a hundred workers is one."""


class Losses:
    """Takes note of what comes back. `failing`: a call has failed since somebody last looked."""

    def __init__(self, claims: Claims, sending: Submission, diary: Diary, ingest: Callable[[], None]) -> None:
        self.claims, self.sending, self.diary, self.ingest = claims, sending, diary, ingest
        self.failing = True
        self._lost = self._wave = 0

    def returned(self, back: Return) -> bool:
        """A task came back; whether without an answer, so that leases are to be looked at. Only the record is believed.

        Raises CampaignError where the cluster loses whatever it gets. May be called again for the same return.
        """
        log.info("%s", back.outcome, extra={"attempt": back.attempt, "calculation": back.calculation})
        nodes, note = self.sending.nodes, self.diary.note
        if back.outcome in ("finished", "failed"):
            self._lost = 0
            self.failing |= back.outcome == "failed"
            if nodes.worked(back.worker):
                note("disk", f"there is room again on {host_of(back.worker)}")
            return False
        self.claims.withdraw(back.attempt)  # where no worker had claimed it
        if back.outcome == "full" and nodes.full(back.worker):
            note("disk", f"{host_of(back.worker)} gets no calls until there is room: {back.message}")
        if back.outcome == "killed":
            self.sending.cluster.gone(back.worker)
        if back.outcome in ("killed", "raised"):  # it is over, though its worker may live: nobody would finish the row
            self.claims.lose(back.attempt, back.message, blamed=True)
            self.ingest()  # the answer may be on disk already, and need not be bought again
        if back.outcome in ("killed", "raised", "unfit"):
            note("worker lost", f"attempt {back.attempt}: {back.message}")
            if back.worker and nodes.lost(back.worker, back.calculation):
                note("node", f"{SUSPECT} different calls were lost on {host_of(back.worker)}; it is avoided")
            if back.attempt > self._wave:
                self._lost, self._wave = self._lost + 1, self.sending.newest
            if self._lost >= DYING:
                raise CampaignError(
                    f"{DYING} times in a row all calls were lost with their workers ({back.message}); look at their "
                    "memory and logs"
                )
        return True
