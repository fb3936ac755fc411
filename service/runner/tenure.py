"""Taking hold of a campaign and letting it go: created or resumed, leased by one process, released at the end."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from farfield.db import answers
from farfield.db.claims import Claims
from farfield.db.outage import is_away
from farfield.db.progress import TRIED_AGAIN
from farfield.errors import CampaignInterrupted
from farfield.service.campaign.config import CampaignConfig
from farfield.service.runner.budgets import FRUITLESS, LIMITED, spent_class
from farfield.service.runner.diary import Diary
from farfield.service.runner.host import this_host
from farfield.service.runner.orders import scratch_of
from farfield.service.runner.refusal import refuse_change, refuse_second
from farfield.service.runner.session import LEASE_BEATS

if TYPE_CHECKING:
    from farfield.oracles.oracle import Oracle

__all__ = ["Tenure"]

GRACE_BEATS = 2
"""Heartbeats' time that a silent holder of the campaign gets once somebody else would have it."""


class Tenure:
    """The campaign of `config` in the hands of this process, between `take` and `release`."""

    def __init__(
        self, config: CampaignConfig, oracle: Oracle, claims: Claims, diary: Diary, *, accept_version: bool = False
    ) -> None:
        self.config, self.oracle, self.claims, self.diary = config, oracle, claims, diary
        self.record = diary.record
        self.accept_version = accept_version
        self.campaign = self.session = 0

    def take(self, session: int, fingerprint: str) -> int:
        """Create the campaign, or check that it may be resumed; take its lease and what earlier processes left. Its id.

        `fingerprint`: the hash of our oracle. Raises CampaignError where another process runs it, or it was started
        with other settings or another oracle.
        """
        self.session = session
        name = self.config.campaign.name
        stored = self.record.campaign(name)
        self.claims.release_dead(*this_host())
        if stored is None:
            made = json.loads(self.config.to_json())
            self._lease(self.record.create_campaign(name, made, self.oracle.fingerprint()))
            self.diary.note("created", f"campaign {name} with the oracle {self.oracle.name}")
            return self.campaign
        other = refuse_change(self.config, fingerprint, stored, accept_version=self.accept_version)
        self._lease(stored.id)
        if other:
            self.record.set_oracle(self.campaign, self.oracle.fingerprint())
            text = f"went on with another version of {self.oracle.name} (--accept-version)"
            self.diary.note("oracle version", text)
        self.record.set_config(self.campaign, json.loads(self.config.to_json()))
        self.diary.note("resumed", f"campaign {name}")
        self.ingest()
        if stored.state == "ended":
            self._try_again()
        for lease in self.claims.leases(self.campaign):
            if lease.holder is not None:
                self.diary.note("waiting", f"attempt {lease.attempt} is still held by {lease.holder}")
        return self.campaign

    def _lease(self, campaign: int) -> None:
        self.campaign = self.diary.campaign = campaign
        beat = self.config.database.heartbeat
        holder = self.record.lease_campaign(campaign, self.session, math.inf)
        if holder is not None and holder.silent > LEASE_BEATS * beat:
            # the database may have been away until now, for its signs of life too
            wait = GRACE_BEATS * beat
            text = f"the campaign is held by {holder}; it is taken over in {wait:.0f} s unless that is heard of"
            self.diary.listener.noted("waiting", text)
            time.sleep(wait)
            holder = self.record.lease_campaign(campaign, self.session, LEASE_BEATS * beat)
        refuse_second(self.config, holder)

    def _try_again(self) -> None:
        """Who resumes a campaign that ended has mended what failed: calculations that were given up are asked anew."""
        last = self.record.last_decision(self.campaign)
        missing = [] if last is None else self.record.missing(self.campaign, last.number)
        stuck = [m for m in missing if spent_class(m.failures) is not None]
        if stuck or self.record.streak(self.campaign, LIMITED).calculations >= FRUITLESS:
            self.diary.note(TRIED_AGAIN, f"calculations that were given up: {len(stuck)}")

    def ingest(self) -> None:
        """Take in answers that were on disk before their worker could commit them."""
        found = answers.ingest(self.claims, scratch_of(self.config) / "answers")
        for what in ("accepted", "superseded", "refused", "damaged"):
            for which in getattr(found, what):
                self.diary.note("answer file", f"{what}: {which}")

    def check(self) -> None:
        """Raises CampaignInterrupted where our own lease ran out (a suspended host) and the campaign was taken."""
        if not self._ours():
            stored = self.record.campaign(self.config.campaign.name)
            holder = "another process" if stored is None or stored.holder is None else stored.holder
            raise CampaignInterrupted(f"campaign {self.config.campaign.name} was taken over by {holder}; this one ends")

    def _ours(self) -> bool:
        """Whether the campaign is held by this process; another may have taken it, and ended since."""
        return self.record.wishes(self.campaign).session == self.session

    def release(self) -> None:
        """Let go of the campaign."""
        self.record.release_campaign(self.campaign, self.session)

    def interrupted(self, why: str) -> None:
        """Note it, and let go of the campaign. Where the database is away, its lease runs out by itself."""
        try:
            if self._ours():
                self.record.set_campaign_state(self.campaign, "interrupted", why)
            self.release()
        except DBAPIError as fault:
            if not is_away(fault):
                raise
