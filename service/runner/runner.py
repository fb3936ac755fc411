"""The runner: takes decisions from a loop, buys them on a cluster, tells the answers, until the loop stops.

It keeps no truth of its own. A decision is a row before anything is submitted; what a calculation came to is read from
the database; a runner that is killed is followed by another that reads the last decision and goes on (decisions A1, A5,
A6). It knows the loop by protocol, so a list of decisions may stand in for it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from farfield.db import answers
from farfield.db.claims import Claims
from farfield.db.progress import TRIED_AGAIN, Cost
from farfield.db.record import Record
from farfield.errors import CampaignError
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.continuous import Earlier, taken_back
from farfield.service.campaign.decision import Answer, Decision, Note, Stop
from farfield.service.campaign.ending import nothing_succeeds
from farfield.service.proposals.cost import cost_from_json
from farfield.service.runner.budgets import FRUITLESS, LIMITED, Budget, spent_class
from farfield.service.runner.buying import Buying
from farfield.service.runner.host import this_host
from farfield.service.runner.listener import Listener, Progress, Silent
from farfield.service.runner.orders import order_for, scratch_of
from farfield.service.runner.recording import (
    LoopLike,
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

if TYPE_CHECKING:
    from distributed import Client

    from farfield.db.engine import Database
    from farfield.oracles.oracle import Oracle

__all__ = ["Result", "Runner"]

log = logging.getLogger("farfield.controller")

POLL_SECONDS = 0.5
"""Longest wait for a task before stop flag, leases and budgets are looked at again."""
ROLL_UP = 500
"""Calls that came back after which the sums of the cost are kept anew."""
SWEEP_SECONDS = 5.0
"""How often expired and dead leases are looked for while calculations are open."""
DYING = 20
"""Tasks lost in a row, without one that came back, after which the cluster is held to be unfit."""


@dataclass(frozen=True)
class Result:
    """How a run ended. `exit_code` 0: tolerance met, or drained; 1: it cannot go on; 3: ended without the tolerance."""

    reason: str
    converged: bool
    exit_code: int
    drained: bool = False


class Runner:
    """Runs one campaign on `client`. Use `run()` once; `drain()` may be called from a signal handler."""

    def __init__(
        self,
        config: CampaignConfig,
        database: Database,
        client: Client,
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
        self.sending = Submission(client, self.claims)
        self.fingerprint = fingerprint_hash(oracle)
        self.budget = Budget(config.budget)
        self.campaign = self._session = 0
        self.buying = Buying(self.record, 0)
        self._drain: str | None = None
        self._paused, self._news = False, 0
        self._swept = self._counted = 0.0
        self._lost = self._came = self._since = 0
        self._decided = time.monotonic()
        self._known: Cost | None = None
        self._failing = True

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
        with threadpool_limits(1), Session(self.claims) as session:
            self._session = session.id
            self._open(session.id)
            self._cluster()
            self.buying = Buying(self.record, self.campaign)
            try:
                return self._rounds()
            except BaseException as fault:
                self.record.set_campaign_state(self.campaign, "interrupted", " ".join(str(fault).split()))
                raise
            finally:
                self.record.release_campaign(self.campaign, session.id)

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

    def _cluster(self) -> None:
        """Say where calls run and where Dask shows itself."""
        client = self.sending.client
        link, count = str(client.dashboard_link), self.sending.slots
        text = f"{count} workers; Dask's dashboard {link}"
        if find_spec("bokeh") is None:
            text += " (it draws where bokeh is installed beside the scheduler)"
        self.record.event(self.campaign, "dashboard", text, {"link": link})
        self.listener.noted("cluster", text)

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
        stuck = [m for m in missing if spent_class(m.failures) is not None]
        if stuck or self.record.streak(self.campaign, LIMITED).calculations >= FRUITLESS:
            self._note(TRIED_AGAIN, f"calculations that were given up: {len(stuck)}")

    def _ingest(self) -> None:
        """Take in answers that were on disk before their worker could commit them."""
        found = answers.ingest(self.claims, scratch_of(self.config) / "answers")
        for what in ("accepted", "superseded", "refused", "damaged"):
            for which in getattr(found, what):
                self._note("answer file", f"{what}: {which}")

    # -- rounds --------------------------------------------------------------------------------------------------

    def _rounds(self) -> Result:
        stored = read_decisions(self.record, self.campaign)
        loop = self.start(stored, [read_answers(self.record, self.campaign, d) for d in stored[:-1]])
        pending = stored[-1] if stored else None
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
                self._since, self._decided = 0, time.monotonic()
                pending = asked
                self._take_back([asked])
            self.listener.decided(pending)
            self._add(pending)
            if (halt := self._settle(loop, pending)) is not None:
                return self._end(halt)
            self._diary(withdraw_asked(self.record, self.campaign, loop))
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
        self.buying.add(decision, lambda p: cost(len(p.atoms), p.role))

    def _conclude(self, loop: LoopLike, decision: Decision, told: Sequence[Answer], earlier: Earlier = ()) -> None:
        """Write down what the loop made of the answers to `decision`."""
        write_down(self.record, self.campaign, self.fingerprint, loop, decision, told, earlier)
        self.record.roll_up(self.campaign)
        self._diary(loop.notes())
        seconds = self.record.charge(self.campaign, decision.number).core_seconds
        self.listener.concluded(decision, loop.estimate(), seconds)

    def _settle(self, loop: LoopLike, decision: Decision) -> Result | None:
        """Buy what is missed until the next decision is due; None then, or why the run halts."""
        needs = {(decision.number, k) for k in loop.needs(decision)} if self._continuous else set()
        while self.buying.unsettled or self.sending.in_flight:
            due = self._since >= self.config.decisions.after
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
                self._note("taken back", f"{len(withdrawn)} calls that had not begun no longer pay")

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
        while self.sending.in_flight:
            for back in self.sending.returns(POLL_SECONDS):
                self._returned(back)
            self._sweep()

    def _turn(self) -> Result | None:
        """Look at what is asked, send out, wait a moment for what comes back; why the run halts once it does."""
        self._progress()
        halt = self._halting()
        if halt is not None or self._paused:
            self.buying.look(set(self.sending.withdraw_waiting()))
            if halt is not None and not self.sending.in_flight:
                return halt
        else:
            self._send()
        returned = self.sending.returns(POLL_SECONDS)
        for back in returned:
            self._returned(back)
        if returned:
            self.buying.look({back.calculation for back in returned})
            self._came += len(returned)
            self._since += len(returned)
            if self._came >= ROLL_UP:
                self._came = 0
                self.record.roll_up(self.campaign)
        self._sweep()
        return None

    def _progress(self) -> None:
        """How far the decisions under way are."""
        cost = self._cost()
        total, left = self.buying.total, len(self.buying.unsettled)
        self.listener.progressed(Progress(total - left, total, self.sending.in_flight, cost.calls, cost.core_seconds))

    def _cost(self) -> Cost:
        """What the campaign was charged: exact where it counts, for the budget of calls, else of a moment ago."""
        stale = time.monotonic() - self._counted >= POLL_SECONDS
        if self._known is None or stale or self.config.budget.calls is not None:
            self._known, self._counted = self.record.cost(self.campaign), time.monotonic()
        return self._known

    def _send(self) -> None:
        """New attempts, as far as slots and budget allow."""
        room = min(self.sending.room(), self.budget.room(self._cost().calls, self.sending.in_flight))
        if room <= 0:
            return
        chosen = self.buying.take(room, self.sending.calculations)
        if not chosen:
            return
        attempts = self.claims.new_attempts(self.campaign, [(m.calculation, m.kinds) for _, m in chosen])
        taken = set()
        for attempt, (place, m) in zip(attempts, chosen, strict=True):
            if attempt is None:  # another campaign was first: its answer is for all
                taken.add(m.calculation)
                continue
            atoms = self.buying.proposal(place).atoms
            order = order_for(self.config, self.fingerprint, attempt, m.calculation, atoms, m.kinds, m.failures)
            self.sending.submit(order, self.buying.cost(place))
        self.buying.look(taken)

    def _returned(self, back: Return) -> None:
        """A task came back. Nothing is believed but the record; a lost worker's lease is looked at at once."""
        log.info("%s", back.outcome, extra={"attempt": back.attempt, "calculation": back.calculation})
        if back.outcome in ("finished", "failed"):
            self._lost = 0
            self._failing |= back.outcome == "failed"
            return
        self.claims.withdraw(back.attempt)  # where no worker had claimed it
        self._swept = 0.0
        if back.outcome == "raised":  # it is over, though its worker may live: nobody would ever finish the row
            self.claims.lose(back.attempt, back.message)
            self._ingest()  # the answer may be on disk already, and need not be bought again
        if back.outcome in ("lost", "raised"):
            self._lost += 1
            self._note("worker lost", f"attempt {back.attempt}: {back.message}")
            if self._lost >= DYING:
                raise CampaignError(
                    f"{DYING} tasks in a row were lost with their workers; look at their memory and logs"
                )

    def _sweep(self) -> None:
        """Free what dead or silent processes hold; end when our own lease ran out (a suspended host) and was taken."""
        self.buying.glance(self.sending.calculations)
        if time.monotonic() - self._swept >= SWEEP_SECONDS:
            self._swept = time.monotonic()
            lost = [*self.claims.release_dead(*this_host()), *self.claims.expire()]
            if lost:
                self.buying.look()
            stored = self.record.campaign(self.config.campaign.name)
            holder = None if stored is None else stored.holder
            if holder is not None and holder.session != self._session:
                raise CampaignError(f"campaign {self.config.campaign.name} was taken over by {holder}; this one ends")

    # -- ends ----------------------------------------------------------------------------------------------------

    def _halting(self) -> Result | None:
        """Whether to stop buying: asked to drain, here or through the database, or a budget is spent."""
        wishes = self.record.wishes(self.campaign)
        if wishes.paused != self._paused:
            self._paused = wishes.paused
            text = "nothing new is bought until `farfield resume`" if self._paused else "buying goes on"
            self._note("paused" if self._paused else "went on", text)
        if wishes.news != self._news:
            self._news = wishes.news
            self.buying.look()
        if self._drain is None and wishes.stop:
            self._drain = "farfield stop"
        if self._drain is not None:
            text = f"{self._drain}: calls in flight finished, nothing new was bought"
            return Result(text, False, 0, drained=True)
        if (fruitless := self._fruitless()) is not None:
            return fruitless
        cost = self._cost()
        if (spent := self.budget.spent(cost.calls, cost.core_seconds)) is not None:
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
        log.info("%s: %s", kind, message, extra={"event": kind})
        self.listener.noted(kind, message)
