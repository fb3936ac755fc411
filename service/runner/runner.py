"""The runner: takes decisions from a loop, buys them on a cluster, tells the answers, until the loop stops.

It keeps no truth of its own. A decision is a row before anything is submitted; what a calculation came to is read from
the database; a runner that is killed is followed by another that reads the last decision and goes on (decisions A1, A5,
A6). It knows the loop by protocol, so a list of decisions may stand in for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ase import Atoms
from sqlalchemy.exc import DBAPIError
from threadpoolctl import threadpool_limits

from farfield.db import answers
from farfield.db.claims import Claims
from farfield.db.outage import is_away, is_full
from farfield.db.progress import TRIED_AGAIN, Missing
from farfield.db.record import Record
from farfield.errors import CampaignError
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.leftovers import reap_leftovers
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Decision, Note, Stop
from farfield.service.campaign.ending import nothing_succeeds
from farfield.service.runner.budgets import FRUITLESS, LIMITED, Budget, order_of, spent_class
from farfield.service.runner.cluster import host_of
from farfield.service.runner.host import this_host
from farfield.service.runner.listener import Listener, Progress, Silent
from farfield.service.runner.nodes import SUSPECT
from farfield.service.runner.orders import order_for, scratch_of
from farfield.service.runner.patience import Patience
from farfield.service.runner.recording import (
    Start,
    note_down,
    read_answers,
    read_decisions,
    withdraw_asked,
    write_down,
)
from farfield.service.runner.refusal import refuse_change
from farfield.service.runner.session import Session
from farfield.service.runner.submission import Return, Submission
from farfield.service.runner.task import Order

if TYPE_CHECKING:
    from farfield.db.engine import Database
    from farfield.oracles.oracle import Oracle
    from farfield.service.runner.cluster import Cluster

__all__ = ["Result", "Runner"]

POLL_SECONDS = 0.5
"""Longest wait for a task before stop flag, leases and budgets are looked at again."""
SWEEP_SECONDS = 5.0
"""How often expired and dead leases are looked for while calculations are open."""
DYING = 20
"""Waves of lost tasks in a row, without one that came back, after which the cluster is held to be unfit. A wave is what
was under way together: the end of a hundred workers is one."""
LEASE_BEATS = 4
"""Heartbeats that may be missed before a lease runs out (decisions A5)."""


@dataclass(frozen=True)
class Result:
    """How a run ended. `exit_code` 0: tolerance met, or drained; 1: it cannot go on; 3: ended without the tolerance."""

    reason: str
    converged: bool
    exit_code: int
    drained: bool = False


class Runner:
    """Runs one campaign on `cluster`. Use `run()` once; `drain()` may be called from a signal handler."""

    def __init__(
        self,
        config: CampaignConfig,
        database: Database,
        cluster: Cluster,
        oracle: Oracle,
        start: Start,
        *,
        listener: Listener | None = None,
        accept_version: bool = False,
    ) -> None:
        self.config, self.oracle, self.start = config, oracle, start
        self.listener: Listener = listener or Silent()
        self.accept_version = accept_version
        self.record, self.claims = Record(database), Claims(database)
        self.cluster = cluster
        self.sending = Submission(cluster, self.claims)
        self.fingerprint = fingerprint_hash(oracle)
        self.budget = Budget(config.budget)
        self.campaign = self._session = 0
        self._drain: str | None = None
        self._swept = 0.0
        self._lost = self._wave = 0
        self._failing = True
        self._back: list[Return] = []
        self._lease_seconds = LEASE_BEATS * config.database.heartbeat
        self._reached = float("-inf")  # since when the database has been there again

    def drain(self, reason: str) -> None:
        """Finish the calls in flight, buy nothing new, then return."""
        self._drain = reason

    @property
    def draining(self) -> bool:
        """Whether a drain was asked for."""
        return self._drain is not None

    def run(self) -> Result:
        """Create or resume the campaign and run it to its end.

        Raises CampaignError (another process runs it, it was started with other settings or another oracle, the
        cluster is unfit) and what the loop raises; all that was bought is in the record.
        """
        with threadpool_limits(1), Session(self.claims, beat=self.config.database.heartbeat) as session:
            self._session = session.id
            reap_leftovers()
            self._open(session.id)
            try:
                return self._through_outages()
            except BaseException as fault:
                self._interrupted(" ".join(str(fault).split()))
                raise
            finally:
                reap_leftovers()

    def _interrupted(self, why: str) -> None:
        """Note it, and let go of the campaign. Where the database is away, its lease runs out by itself."""
        try:
            self.record.set_campaign_state(self.campaign, "interrupted", why)
            self.record.release_campaign(self.campaign, self._session)
        except DBAPIError as fault:
            if not is_away(fault):
                raise

    # -- start ---------------------------------------------------------------------------------------------------

    def _open(self, session: int) -> None:
        """Create the campaign, or check that it may be resumed; take its lease and what earlier processes left."""
        name = self.config.campaign.name
        stored = self.record.campaign(name)
        self.claims.release_dead(*this_host())
        if stored is None:
            made = json.loads(self.config.to_json())
            self.campaign = self.record.create_campaign(name, made, self.oracle.fingerprint())
            self._lease(session)
            self._note("created", f"campaign {name} with the oracle {self.oracle.name}")
            return
        other = refuse_change(self.config, self.fingerprint, stored, accept_version=self.accept_version)
        self.campaign = stored.id
        self._lease(session)
        if other:
            self.record.set_oracle(self.campaign, self.oracle.fingerprint())
            self._note("oracle version", f"went on with another version of {self.oracle.name} (--accept-version)")
        self.record.set_config(self.campaign, json.loads(self.config.to_json()))
        self._note("resumed", f"campaign {name}")
        self._ingest()
        if stored.state == "ended":
            self._try_again()
        for lease in self.claims.leases(self.campaign):
            if lease.holder is not None:
                self._note("waiting", f"attempt {lease.attempt} is still held by {lease.holder}")

    def _lease(self, session: int) -> None:
        holder = self.record.lease_campaign(self.campaign, session)
        if holder is not None:
            raise CampaignError(
                f"campaign {self.config.campaign.name} is already run by {holder}; wait for it, or stop it with "
                "`farfield stop`"
            )

    def _try_again(self) -> None:
        """Who resumes a campaign that ended has mended what failed: calculations that were given up are asked anew."""
        last = self.record.last_decision(self.campaign)
        missing = [] if last is None else self.record.missing(self.campaign, last.number)
        given_up = [m for m in missing if spent_class(m.failures) is not None]
        if given_up or self.record.streak(self.campaign, LIMITED).calculations >= FRUITLESS:
            self._note(TRIED_AGAIN, f"calculations that were given up: {len(given_up)}")

    def _ingest(self) -> None:
        """Take in answers that were on disk before their worker could commit them."""
        found = answers.ingest(self.claims, scratch_of(self.config) / "answers")
        for what in ("accepted", "superseded", "refused", "damaged"):
            for which in getattr(found, what):
                self._note("answer file", f"{what}: {which}")

    # -- rounds --------------------------------------------------------------------------------------------------

    def _through_outages(self) -> Result:
        """The rounds, begun anew from the record whenever the database has been away; calls in flight stay in flight.

        Raises CampaignError where it is away for longer than `[database] patience`.
        """
        while True:
            try:
                result = self._rounds()
                self.record.release_campaign(self.campaign, self._session)
                return result
            except DBAPIError as fault:
                self._await_database(fault)

    def _await_database(self, fault: DBAPIError) -> None:
        """Wait until the database takes a write again, which says so."""
        began, what = time.monotonic(), "no room on its disk" if is_full(fault) else str(fault.orig).splitlines()[0]
        patience = Patience(60 * self.config.database.patience)
        if is_away(fault):
            self.listener.noted("database", f"away ({what}); the campaign waits for it")
        while True:
            try:
                patience.wait(fault)
            except DBAPIError as over:
                if not is_away(over):
                    raise
                raise CampaignError(
                    f"the database has been away for {self.config.database.patience:g} min ({what}); `farfield run` "
                    "goes on when it is back, with all answers that workers hold on disk"
                ) from over
            try:
                waited = time.monotonic() - began
                self._note("database", f"away for {waited:.0f} s ({what}); calls under way went on, none was begun")
                self.claims.withdraw_strays(self._session, self.sending.attempts)
                self._reached = time.monotonic()
                return
            except DBAPIError as again:
                fault = again

    def _rounds(self) -> Result:
        stored = read_decisions(self.record, self.campaign)
        loop = self.start(stored, [read_answers(self.record, self.campaign, d) for d in stored[:-1]])
        pending = stored[-1] if stored else None
        while True:
            if pending is None:
                if (halt := self._halting()) is not None:
                    return self._end(halt)
                asked = loop.ask()
                if isinstance(asked, Stop):
                    return self._end(Result(asked.reason, asked.converged, asked.exit_code))
                self.record.store_decision(self.campaign, asked)
                pending = asked
            self.listener.decided(pending)
            if (halt := self._settle(pending)) is not None:
                return self._end(halt)
            told = read_answers(self.record, self.campaign, pending)
            self._diary(withdraw_asked(self.record, self.campaign, loop))
            loop.tell(pending, told)
            write_down(self.record, self.campaign, self.fingerprint, loop, pending, told)
            self.record.roll_up(self.campaign)
            self._diary(loop.notes())
            paid = self.record.charges(self.campaign).items()
            seconds = sum(share.core_seconds for place, share in paid if place and place[0] == pending.number)
            self.listener.concluded(pending, loop.estimate(), seconds)
            pending = None

    def _settle(self, decision: Decision) -> Result | None:
        """Buy what `decision` still misses until every calculation is terminal; None then, or why the run halts."""
        cells = {p.ordinal: p.atoms for p in decision.proposals}
        while True:
            missing = self.record.missing(self.campaign, decision.number)
            wanted = [m for m in missing if spent_class(m.failures) is None]
            wanted.sort(key=lambda m: order_of(m.failures))
            cost = self.record.cost(self.campaign)
            self.listener.progressed(
                Progress(len(cells) - len(wanted), len(cells), self.sending.in_flight, cost.calls, cost.core_seconds)
            )
            if not wanted and not self.sending.in_flight:
                return None
            if (halt := self._halting(cost.calls, cost.core_seconds)) is not None:
                self.sending.withdraw_waiting()
                if not self.sending.in_flight:
                    return halt
            else:
                self._send(cells, wanted, cost.calls)
            self._back += self.sending.returns(POLL_SECONDS)
            while self._back:
                self._returned(self._back[0])
                self._back.pop(0)
            self._sweep()

    def _send(self, cells: dict[int, Atoms], wanted: Sequence[Missing], calls: int) -> None:
        """New attempts for calculations that have none under way, as far as slots and budget allow."""
        room = min(self.sending.room(), self.budget.room(calls, self.sending.in_flight))
        for m in wanted:
            if room <= 0:
                return
            if m.open or m.calculation in self.sending.calculations:
                continue  # under way: ours, or one that outlived an earlier controller

            def order(attempt: int, m: Missing = m) -> Order:
                return order_for(
                    self.config, self.fingerprint, attempt, m.calculation, cells[m.ordinal], m.kinds, m.failures
                )

            self.sending.send(order, m.calculation, self.campaign, m.kinds)
            room -= 1

    def _returned(self, back: Return) -> None:
        """A task came back. Nothing is believed but the record; a lost worker's lease is looked at at once."""
        nodes = self.sending.nodes
        if back.outcome in ("finished", "failed"):
            self._lost = 0
            self._failing |= back.outcome == "failed"
            if nodes.worked(back.worker):
                self._note("disk", f"there is room again on {host_of(back.worker)}")
            return
        self.claims.withdraw(back.attempt)  # where no worker had claimed it
        self._swept = 0.0
        if back.outcome == "full" and nodes.full(back.worker):
            self._note("disk", f"{host_of(back.worker)} gets no calls until there is room: {back.message}")
        if back.outcome in ("killed", "raised"):  # it is over, though its worker may live: nobody would finish the row
            self.claims.lose(back.attempt, back.message, blamed=True)
            self._ingest()  # the answer may be on disk already, and need not be bought again
        if back.outcome in ("killed", "raised", "unfit"):
            self._note("worker lost", f"attempt {back.attempt}: {back.message}")
            if back.worker and nodes.lost(back.worker, back.calculation):
                self._note("node", f"{SUSPECT} different calls were lost on {host_of(back.worker)}; it is avoided")
            if back.attempt > self._wave:
                self._lost, self._wave = self._lost + 1, self.sending.newest
            if self._lost >= DYING:
                raise CampaignError(
                    f"{DYING} times in a row all calls were lost with their workers ({back.message}); look at their "
                    "memory and logs"
                )

    def _sweep(self) -> None:
        """Free what dead or silent processes hold, have the cluster tended; end when our own lease ran out (a suspended
        host) and was taken."""
        if time.monotonic() - self._swept >= SWEEP_SECONDS:
            self._swept = time.monotonic()
            self.claims.release_dead(*this_host())
            # while the database was away nobody could give a sign of life
            if time.monotonic() - self._reached > self._lease_seconds and (
                silent := self.claims.expire(self._lease_seconds)
            ):
                self.sending.give_up(silent)
            for text in self.cluster.tend():
                self._note("cluster", text)
            stored = self.record.campaign(self.config.campaign.name)
            holder = None if stored is None else stored.holder
            if holder is not None and holder.session != self._session:
                raise CampaignError(f"campaign {self.config.campaign.name} was taken over by {holder}; this one ends")

    # -- ends ----------------------------------------------------------------------------------------------------

    def _halting(self, calls: int | None = None, core_seconds: float = 0.0) -> Result | None:
        """Whether to stop buying: asked to drain, here or through the database, or a budget is spent."""
        if self._drain is None and self.record.stop_requested(self.campaign):
            self._drain = "farfield stop"
        if self._drain is not None:
            text = f"{self._drain}: calls in flight finished, nothing new was bought"
            return Result(text, False, 0, drained=True)
        if (fruitless := self._fruitless()) is not None:
            return fruitless
        if calls is None:
            cost = self.record.cost(self.campaign)
            calls, core_seconds = cost.calls, cost.core_seconds
        if (spent := self.budget.spent(calls, core_seconds)) is not None:
            known = self.record.estimates(self.campaign)
            stands = "the best estimate so far stands" if known else "there is no estimate yet"
            return Result(f"{spent}; {stands}", False, 3)
        return None

    def _fruitless(self) -> Result | None:
        """The end where new calculations keep failing, before the campaign's money is burnt on the rest of them."""
        if not self._failing:
            return None
        streak = self.record.streak(self.campaign, LIMITED)
        self._failing = streak.calculations >= FRUITLESS
        if not self._failing:
            return None
        stop = nothing_succeeds(streak.calculations, streak.failure, streak.message)
        return Result(stop.reason, stop.converged, stop.exit_code)

    def _end(self, result: Result) -> Result:
        state = "drained" if result.drained else "converged" if result.converged else "ended"
        self.record.set_campaign_state(self.campaign, state, result.reason)
        self._note(state, result.reason)
        return result

    def _diary(self, notes: Sequence[Note]) -> None:
        for note in note_down(self.record, self.campaign, notes):
            self.listener.noted(note.kind, note.message)

    def _note(self, kind: str, message: str) -> None:
        self.record.event(self.campaign, kind, message)
        self.listener.noted(kind, message)
