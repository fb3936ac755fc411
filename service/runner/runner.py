"""The runner: takes decisions from a loop, buys them on a cluster, tells the answers, until the loop stops.

It keeps no truth of its own. A decision is a row before anything is submitted; what a calculation came to is read from
the database; a runner that is killed is followed by another that reads the last decision and goes on (decisions A1, A5,
A6). It knows the loop by protocol, so a list of decisions may stand in for it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from threadpoolctl import threadpool_limits

from farfield.db.claims import Claims
from farfield.db.record import Record
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.leftovers import reap_leftovers
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.continuous import Earlier, taken_back
from farfield.service.campaign.decision import Answer, Decision, Stop
from farfield.service.proposals.cost import FittedCost, cost_from_json
from farfield.service.runner.buying import Buying
from farfield.service.runner.diary import Diary
from farfield.service.runner.halting import Halting, Result
from farfield.service.runner.host import this_host
from farfield.service.runner.listener import Listener, Progress, Silent
from farfield.service.runner.losses import Losses
from farfield.service.runner.orders import order_for
from farfield.service.runner.outages import await_database
from farfield.service.runner.recording import (
    LoopLike,
    Start,
    read_answers,
    read_decisions,
    withdraw_asked,
    write_down,
)
from farfield.service.runner.session import LEASE_BEATS, Session
from farfield.service.runner.submission import Return, Submission
from farfield.service.runner.tenure import Tenure

if TYPE_CHECKING:
    from farfield.db.engine import Database
    from farfield.oracles.oracle import Oracle
    from farfield.service.runner.cluster import Cluster

__all__ = ["Result", "Runner"]

POLL_SECONDS = 0.5
"""Longest wait for a task before stop flag, leases and budgets are looked at again."""
ROLL_UP = 500
"""Calls that came back after which the sums of the cost are kept anew."""
SWEEP_SECONDS = 5.0
"""How often expired and dead leases are looked for while calculations are open."""


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
        self.config, self.start = config, start
        self.listener: Listener = listener or Silent()
        self.record, self.claims = Record(database), Claims(database)
        self.cluster = cluster
        self.sending = Submission(cluster, self.claims)
        self.fingerprint = fingerprint_hash(oracle)
        self.diary = Diary(self.record, self.listener)
        self.tenure = Tenure(config, oracle, self.claims, self.diary, accept_version=accept_version)
        self.losses = Losses(self.claims, self.sending, self.diary, self.tenure.ingest)
        self.halting = Halting(self.record, config.budget, self.losses, self.diary)
        self.campaign = 0
        self._session: Session
        self.buying = Buying(self.record, 0)
        self._swept = 0.0
        self._came = 0
        self._decided = time.monotonic()
        self._back: list[Return] = []
        self._unsaid: list[str] = []
        self._missed: str | None = None
        self._lease_seconds = LEASE_BEATS * config.database.heartbeat

    def drain(self, reason: str) -> None:
        """Finish the calls in flight, buy nothing new, then return."""
        self.halting.drain(reason)

    def run(self) -> Result:
        """Create or resume the campaign and run it to its end.

        Raises CampaignError (another process runs it, it was started with other settings or another oracle, the
        cluster is unfit) and what the loop raises; all that was bought is in the record.
        """
        with threadpool_limits(1), Session(self.claims, beat=self.config.database.heartbeat) as session:
            self._session = session
            reap_leftovers()
            self.campaign = self.tenure.take(session.id, self.fingerprint)
            try:
                self._say_where()
                return self._through_outages()
            except BaseException as fault:
                self.tenure.interrupted(" ".join(str(fault).split()))
                raise
            finally:
                reap_leftovers()

    def _say_where(self) -> None:
        """Say where calls run and where Dask shows itself."""
        link, text = self.cluster.dashboard, f"{self.cluster.slots()} workers"
        if link is not None:
            text += f"; Dask's dashboard {link}"
            if find_spec("bokeh") is None:
                text += " (it draws where bokeh is installed beside the scheduler)"
        self.record.event(self.campaign, "dashboard", text, {"link": link})
        self.listener.noted("cluster", text)

    # -- rounds --------------------------------------------------------------------------------------------------

    def _through_outages(self) -> Result:
        """The rounds, begun anew from the record whenever the database has been away; calls in flight stay in flight.

        Raises CampaignError where it is away for longer than `[database] patience`.
        """
        while True:
            try:
                result = self._rounds()
                self.tenure.release()
                return result
            except DBAPIError as fault:
                await_database(fault, self.config.database.patience, self.listener, self._after_outage)

    def _after_outage(self, what: str) -> None:
        self.diary.note("database", what)
        self._session.forgive()
        self._missed = None
        self.claims.withdraw_strays(self._session.id, self.sending.attempts)

    def _rounds(self) -> Result:
        stored = read_decisions(self.record, self.campaign)
        loop = self.start(stored, [read_answers(self.record, self.campaign, d) for d in stored[:-1]])
        pending = stored[-1] if stored else None
        self.buying = Buying(self.record, self.campaign)
        if self._continuous:
            self._reopen(loop, stored)
        while True:
            if pending is None:
                if (halt := self._halting()) is not None:
                    return self._end(halt)
                asked = loop.ask()
                if isinstance(asked, Stop):
                    self._wind_up()
                    return self._end(Result(asked.reason, asked.converged, asked.exit_code))
                self.record.store_decision(self.campaign, asked)
                self._decided = time.monotonic()
                pending = asked
                self._take_back([asked])
            self.listener.decided(pending)
            before = self.buying.settled
            self._add(pending)
            if (halt := self._settle(loop, pending, before)) is not None:
                return self._end(halt)
            self.diary.copy(withdraw_asked(self.record, self.campaign, loop))
            told, still = self._answers(pending), set[int]()
            if self._continuous:
                earlier = self._earlier(loop, pending)
                loop.tell(pending, told, earlier)
                self._conclude(loop, pending, told, earlier)
                still = {n for n, _ in loop.open_places}
            else:
                loop.tell(pending, told)
                self._conclude(loop, pending, told)
            for number in self.buying.decisions.keys() - still:
                self.buying.close(number)
            pending = None

    def _add(self, decision: Decision) -> None:
        cost = cost_from_json(decision.cost_model)
        timed = isinstance(cost, FittedCost) and cost.timed
        self.buying.add(decision, lambda p: cost(len(p.atoms), p.role), timed=timed)

    def _conclude(self, loop: LoopLike, decision: Decision, told: Sequence[Answer], earlier: Earlier = ()) -> None:
        """Write down what the loop made of the answers to `decision`."""
        write_down(self.record, self.campaign, self.fingerprint, loop, decision, told, earlier)
        self.record.roll_up(self.campaign)
        self.diary.copy(loop.notes())
        seconds = self.record.charge(self.campaign, decision.number).core_seconds
        self.listener.concluded(decision, loop.estimate(), seconds)

    def _settle(self, loop: LoopLike, decision: Decision, before: int) -> Result | None:
        """Buy what is missed until the next decision is due; None then, or why the run halts. `before`: what had been
        settled when this decision was made."""
        needs = {(decision.number, k) for k in loop.needs(decision)} if self._continuous else set()
        while self.buying.unsettled or self.sending.in_flight or self._back:
            due = self.buying.settled - before >= self.config.decisions.after
            late = time.monotonic() - self._decided >= 60 * self.config.decisions.every
            if self._continuous and (due or late) and needs.isdisjoint(self.buying.unsettled):
                break
            if (halt := self._turn()) is not None:
                return halt
        self._progress()
        return None

    # -- continuous rounds ---------------------------------------------------------------------------------------

    @property
    def _continuous(self) -> bool:
        return self.config.decisions.rounds == "continuous"

    def _reopen(self, loop: LoopLike, stored: Sequence[Decision]) -> None:
        """What the last decision left open of earlier ones is bought on, unless it was taken back since."""
        still = loop.open_places
        for decision in stored[:-1]:
            if own := {p for p in still if p[0] == decision.number}:
                self._add(decision)
                self.buying.drop({(decision.number, p.ordinal) for p in decision.proposals} - own)
        self._take_back(stored)

    def _take_back(self, decisions: Sequence[Decision]) -> None:
        """Calls that no longer pay and have not begun are withdrawn; those that run may finish."""
        if places := taken_back(decisions):
            keys = self.buying.calculations(places)
            self.buying.drop(places)
            if withdrawn := self.sending.withdraw_waiting(keys):
                self.diary.note("taken back", f"{len(withdrawn)} calls that had not begun no longer pay")

    def _answers(self, decision: Decision, ordinals: Collection[int] | None = None) -> list[Answer]:
        """The answers to `decision`, or to some of it, by now."""
        out = []
        for a in read_answers(self.record, self.campaign, decision):
            if ordinals is None or a.ordinal in ordinals:
                how = self.buying.standing((decision.number, a.ordinal), self.sending.calculations)
                out.append(replace(a, pending=how == "pending", dropped=how == "dropped"))
        return out

    def _earlier(self, loop: LoopLike, pending: Decision) -> Earlier:
        """Answers to what was open of the decisions before `pending`."""
        still = loop.open_places
        return [
            (d, self._answers(d, {k for n, k in still if n == number}))
            for number, d in sorted(self.buying.decisions.items())
            if number != pending.number
        ]

    def _wind_up(self) -> None:
        """At the end nothing more pays: what waits is withdrawn, what runs is waited for and recorded."""
        self.buying.drop(set(self.buying.unsettled))
        self.sending.withdraw_waiting()
        while self.sending.in_flight or self._back:
            self._receive()
            self._sweep()

    def _turn(self) -> Result | None:
        """Look at what is asked, send out, wait a moment for what comes back; why the run halts once it does."""
        self._progress()
        halt = self._halting()
        if halt is not None or self.halting.paused:
            self.buying.look(set(self.sending.withdraw_waiting()))
            if halt is not None and not self.sending.in_flight:
                return halt
        else:
            self._send()
        self._receive()
        self._sweep()
        return None

    def _receive(self) -> None:
        """Wait a moment for what comes back. What the database was away for is taken up again the next time."""
        self._back += self.sending.returns(POLL_SECONDS)
        if not self._back:
            return
        calculations = {back.calculation for back in self._back}
        while self._back:
            if self.losses.returned(self._back[0]):
                self._swept = 0.0
            self._back.pop(0)
            self._came += 1
        self.buying.look(calculations)
        if self._came >= ROLL_UP:
            self._came = 0
            self.record.roll_up(self.campaign)

    def _progress(self) -> None:
        """How far the decisions under way are."""
        cost = self.halting.cost()
        total, left = self.buying.total, len(self.buying.unsettled)
        self.listener.progressed(Progress(total - left, total, self.sending.in_flight, cost.calls, cost.core_seconds))

    def _send(self) -> None:
        """New attempts, as far as slots and budget allow."""
        room = min(self.sending.room(), self.halting.room(self.sending.in_flight))
        if room <= 0:
            return
        chosen = self.buying.take(room, {*self.sending.calculations, *self.losses.fates.held})
        if not chosen:
            return
        wanted = [(m.calculation, m.kinds) for _, m in chosen]
        attempts = self.claims.new_attempts(self.campaign, wanted, self._session.id, self.config.cluster.cores)
        taken = set()
        for attempt, (place, m) in zip(attempts, chosen, strict=True):
            if attempt is None:  # another campaign was first: its answer is for all
                taken.add(m.calculation)
                continue
            atoms = self.buying.proposal(place).atoms
            known = self.buying.core_seconds(place)
            order = order_for(self.config, self.fingerprint, attempt, m.calculation, atoms, m.kinds, m.failures, known)
            if not self.sending.submit(order, self.buying.priority(place)):
                taken.add(m.calculation)
        self.buying.look(taken)

    def _sweep(self) -> None:
        """Free what dead or silent processes hold, have the cluster tended, see whether the campaign is ours still."""
        self.buying.glance(self.sending.calculations)
        if judged := self.losses.judge():
            self.buying.look(judged)
        if time.monotonic() - self._swept < SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        lost = self.claims.release_dead(*this_host())
        if silent := self.claims.expire(self._lease_seconds, self.campaign, self._session.heard):
            self.sending.give_up(silent)
            lost += silent
        self.losses.expired(lost)
        self.sending.hear(self._lease_seconds)
        if stranded := self.sending.stranded():
            self.buying.look(set(stranded))
        self._unsaid += self.cluster.tend()  # the database may be away just now
        while self._unsaid:
            self.diary.note("cluster", self._unsaid[0])
            self._unsaid.pop(0)
        if lost:
            self.buying.look()
        self._say_missed()
        self.tenure.check()

    def _say_missed(self) -> None:
        """While calls are long our own heartbeats alone notice that the database is full or away."""
        before, self._missed = self._missed, self._session.missed
        if self._missed is not None and before is None:
            self.listener.noted("database", f"cannot be written to ({self._missed}); answers wait until it can")
        elif self._missed is None and before is not None:
            self.diary.note("database", f"can be written to again; before: {before}")

    # -- ends ----------------------------------------------------------------------------------------------------

    def _halting(self) -> Result | None:
        """Why to stop buying, if anything; what people ask is heard first."""
        if self.halting.listen():
            self.buying.look()
        return self.halting.why()

    def _end(self, result: Result) -> Result:
        state = "drained" if result.drained else "converged" if result.converged else "ended"
        self.record.set_campaign_state(self.campaign, state, result.reason)
        self.diary.note(state, result.reason)
        return result
