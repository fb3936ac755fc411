"""What came back, and what it tells of workers, hosts and the cluster. The worker is suspected before the task."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from farfield.db.claims import Claims
from farfield.errors import CampaignInterrupted
from farfield.service.runner.cluster import host_of
from farfield.service.runner.diary import Diary
from farfield.service.runner.fates import Fates
from farfield.service.runner.nodes import SUSPECT
from farfield.service.runner.submission import Return, Submission

__all__ = ["DYING", "Losses"]

log = logging.getLogger("farfield.controller")

DYING = 20
"""Waves of lost tasks in a row, without one that came back, after which the cluster is held to be unfit. A wave is what
was under way together: the end of a hundred workers is one."""


DOUBT = 10
"""So many times a calculation goes down with the nanny of its worker before that is held against it too: where a batch
system ends the whole job for a call's memory it looks like a job that was cancelled."""


class Losses:
    """Takes note of what comes back. `failing`: a call has failed since somebody last looked."""

    def __init__(self, claims: Claims, sending: Submission, diary: Diary, ingest: Callable[[], None]) -> None:
        self.claims, self.sending, self.diary, self.ingest = claims, sending, diary, ingest
        self.failing = True
        self.fates = Fates()
        self._gone: Counter[str] = Counter()
        self._again: dict[int, str] = {}
        self._lost = self._wave = 0

    def returned(self, back: Return) -> bool:
        """A task came back; whether without an answer, so that leases are to be looked at. Only the record is believed.

        Raises CampaignInterrupted where the cluster loses whatever it gets. May be called again for the same return.
        """
        log.info("%s", back.outcome, extra={"attempt": back.attempt, "calculation": back.calculation})
        nodes, note, cluster = self.sending.nodes, self.diary.note, self.sending.cluster
        if back.outcome in ("finished", "failed"):
            self._lost = 0
            self.failing |= back.outcome == "failed"
            if nodes.worked(back.worker):
                note("disk", f"there is room again on {host_of(back.worker)}")
            return False
        waited = self.claims.withdraw(back.attempt)  # where no worker had claimed it
        if back.outcome == "not claimed" and not waited and cluster.reruns:  # another worker had, and died
            self._again[back.attempt] = "Dask lost the worker of this call and ran its task again"
        if back.outcome == "full" and nodes.full(back.worker):
            note("disk", f"{host_of(back.worker)} gets no calls until there is room: {back.message}")
        if back.outcome == "killed":
            cluster.gone(back.worker)
        if back.outcome in ("killed", "raised"):  # it is over, though its worker may live: nobody would finish the row
            open_verdict = bool(back.outcome == "killed" and cluster.apart and back.nanny)
            lost = self.claims.lose(back.attempt, back.message, blamed=not open_verdict)
            if open_verdict and (lost or self.claims.failure(back.attempt) == "worker lost"):
                self.fates.note(back.attempt, back.calculation, back.message, back.nanny)
            self.ingest()  # the answer may be on disk already, and need not be bought again
        if back.outcome in ("killed", "raised", "unfit"):
            note("worker lost", f"attempt {back.attempt}: {back.message}")
            behind = waited and back.outcome == "killed"  # a worker that lives is no victim of one
            if back.worker and nodes.lost(back.worker, back.calculation, began=not behind):
                note("node", f"{SUSPECT} different calls were lost on {host_of(back.worker)}; it is avoided")
            if back.attempt > self._wave:
                self._lost, self._wave = self._lost + 1, self.sending.newest
            if self._lost >= DYING:
                raise CampaignInterrupted(
                    f"{DYING} times in a row all calls were lost with their workers ({back.message}); look at their "
                    "memory and logs"
                )
        return True

    def judge(self) -> set[str]:
        """Calls that ended their worker count against their calculation, those that went down with it do not; the keys
        of the calculations that may be bought again."""
        told = self.fates.told()
        for fate, lives in told:
            self._gone[fate.calculation] += not lives
            if lives or self._gone[fate.calculation] > DOUBT:
                self.claims.lose(fate.attempt, fate.message, blamed=True)
            self.fates.settled(fate)
        return {fate.calculation for fate, _ in told}

    def expired(self, attempts: Sequence[int]) -> None:
        """Leases ran out. A call whose worker Dask lost before that counts as one that ended its worker: a scheduler of
        somebody else's that runs tasks again does not say so otherwise."""
        for attempt in attempts:
            if (why := self._again.pop(attempt, None)) is not None:
                self.claims.lose(attempt, why, blamed=True)
