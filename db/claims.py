"""Claims: one oracle call is one attempt, claimed once, finished once (decisions A4 to A7).

States: waiting -> running -> finished, superseded or failed; waiting -> withdrawn. Every move is one transaction that
compares before it sets. An answer that comes late, after its lease ran out, is taken all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Connection, func, insert, select, update

from farfield.db import asking, labels, schema, sessions
from farfield.db.attempts import locked, put, take
from farfield.db.blobs import store_blob
from farfield.db.calculations import calculation_ids
from farfield.db.campaigns import plain_text
from farfield.db.clock import now
from farfield.db.engine import Database
from farfield.db.identity import ordered_kinds
from farfield.errors import RecordError
from farfield.oracles.observation import KINDS, Observations
from farfield.oracles.oracle import FAILURES

__all__ = ["AnswerLike", "Claims", "Lease"]


class AnswerLike(Protocol):
    """An answer on its way to the database, such as `answers.AnswerFile`."""

    @property
    def attempt(self) -> int: ...
    @property
    def session(self) -> int: ...
    @property
    def core_seconds(self) -> float: ...
    @property
    def observations(self) -> Observations: ...


@dataclass(frozen=True)
class Lease:
    """A running attempt and who holds it; `holder` is None when its lease has run out."""

    attempt: int
    calculation: str
    holder: sessions.Holder | None


class Claims:
    """The moves of attempts and sessions in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- sessions ------------------------------------------------------------------------------------------------

    def open_session(self, host: str, boot_id: str, pid: int, start_time: float) -> int:
        """Register this process; the session's id. Raises RecordError on SQLite while another host uses the file."""
        with self.database.write() as connection:
            return sessions.open_session(connection, host, boot_id, pid, start_time)

    def heartbeat(self, session: int) -> list[int]:
        """Say that `session` lives (every 15 s); returns its running attempts that are to be cancelled."""
        with self.database.singly() as connection:
            return sessions.beat(connection, session)

    def close_session(self, session: int) -> list[int]:
        """The process ends: what it still held is released. The attempts that were running."""
        return self._release([session], "its session was closed")

    def expire(
        self,
        lease: float = sessions.LEASE_SECONDS,
        campaign: int | None = None,
        heard: Callable[[], float] = lambda: math.inf,
    ) -> list[int]:
        """Release what sessions hold that were silent for `lease` seconds; the attempts that became `worker lost`.

        With `campaign`, `lease` is that of its own attempts; others beat as they were told, 15 s apart at most. `heard`
        says for how long, s, a sign of life would have come through: nobody is silent who could not have been heard.
        """
        before = heard()
        if before <= lease:
            return []
        with self.database.read() as connection:
            gone = sessions.stale(connection, lease, campaign, others=before > max(lease, sessions.LEASE_SECONDS))
        if not gone or heard() < before:  # this took long, and nobody else came through either
            return []
        return self._release(gone, f"nothing was heard of its process for {lease:.0f} s", lease=lease)

    def holders(self, attempts: Sequence[int]) -> list[int]:
        """The sessions that hold, or held last, some attempts."""
        a = schema.attempt.c
        with self.database.read() as connection:
            return list(connection.scalars(select(a.session_id).where(a.id.in_(attempts), a.session_id.is_not(None))))

    def alive(self, held: Collection[int], lease: float) -> list[int]:
        """Those of some sessions that are open and were heard of within `lease` seconds."""
        with self.database.read() as connection:
            return [s for s in held if sessions.holder(connection, s, lease) is not None]

    def release_dead(self, host: str, boot_id: str) -> list[int]:
        """Release at once what processes of this host and boot hold that are gone; the attempts that were running."""
        with self.database.read() as connection:
            gone = sessions.dead(connection, host, boot_id)
        return self._release(gone, "its process is gone") if gone else []

    def leases(self, campaign: int) -> list[Lease]:
        """The running attempts of a campaign, with the process that holds each."""
        a, c = schema.attempt.c, schema.calculation.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(a.id, c.key, a.session_id)
                .join(schema.calculation, c.id == a.calculation_id)
                .where(a.campaign_id == campaign, a.state == "running")
                .order_by(a.id)
            ).all()
            return [Lease(r.id, r.key, sessions.holder(connection, r.session_id)) for r in rows]

    def _release(self, gone: Sequence[int], why: str, lease: float | None = None) -> list[int]:
        lost: list[int] = []
        with self.database.write() as connection:
            for session in gone:
                if lease is not None and sessions.holder(connection, session, lease) is not None:
                    continue  # it beat again in between
                if lease is None:
                    sessions.close(connection, session)
                lost += sessions.release(connection, session, why)
        return lost

    # -- attempts ------------------------------------------------------------------------------------------------

    def new_attempt(
        self, calculation: str, campaign: int, kinds: Sequence[str], session: int | None = None, cores: int = 1
    ) -> int:
        """A new attempt, waiting, of `calculation` (its key) for `kinds`; its id. Insert it before submitting.

        `session` holds it until a worker does; by default the one that runs the campaign. The call takes `cores`.
        """
        asked = ordered_kinds(kinds)
        a, p, d = schema.attempt.c, schema.proposal.c, schema.decision.c
        with self.database.write() as connection:
            row = calculation_ids(connection, [calculation])[calculation]
            # the lock makes numbers consecutive where writers are not serialised anyway
            connection.execute(select(schema.calculation.c.id).where(schema.calculation.c.id == row).with_for_update())
            number = connection.scalars(
                select(func.coalesce(func.max(a.number), 0)).where(a.calculation_id == row)
            ).one()
            asking = connection.scalars(
                select(func.max(p.id))
                .join(schema.decision, d.id == p.decision_id)
                .where(p.calculation_id == row, d.campaign_id == campaign)
            ).one()
            owner = connection.execute(
                select(schema.campaign.c.session_id).where(schema.campaign.c.id == campaign)
            ).one_or_none()
            if owner is None:
                raise RecordError(f"there is no campaign {campaign} in the record; create it first")
            new: int = connection.scalars(
                insert(schema.attempt)
                .returning(a.id)
                .values(
                    calculation_id=row,
                    number=number + 1,
                    campaign_id=campaign,
                    proposal_id=asking,
                    kinds=",".join(asked),
                    state="waiting",
                    session_id=owner.session_id if session is None else session,
                    cores=cores,
                    created=now(),
                )
            ).one()
            return new

    def new_attempts(
        self, campaign: int, wanted: Sequence[tuple[str, Sequence[str]]], session: int | None = None, cores: int = 1
    ) -> list[int | None]:
        """Waiting attempts for (calculation, kinds) in one transaction; None where one is under way: `asking.ask`."""
        with self.database.write() as connection:
            return asking.ask(connection, campaign, wanted, session, cores)

    def states(self, attempts: Sequence[int]) -> dict[int, str]:
        """The states of some attempts."""
        with self.database.read() as connection:
            return asking.states(connection, attempts)

    def claim(self, attempt: int, session: int) -> bool:
        """Take a waiting attempt; False when it is not waiting, or when all it asks for has been answered meanwhile
        (it is withdrawn then). After False the oracle must not be called.

        True again for whoever holds it: the word of the first time may have been lost with the connection.
        """
        with self.database.write() as connection:
            if take(connection, attempt, session):
                return True
            found = locked(connection, attempt)
            if found.state == "running" and found.session_id == session:
                return True
            if found.state == "waiting":
                put(connection, attempt, state="withdrawn", message="answered by another attempt", ended=True)
            return False

    def finish(
        self,
        attempt: int,
        session: int,
        observations: Observations,
        core_seconds: float,
        settings: Mapping[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """Store the answer of an attempt; the kinds that were accepted, empty when it is superseded (decisions A4).

        Idempotent. `settings` is what the oracle's rule gave for this cell, by default the observations' own. Raises
        RecordError for an answer without any kind that was asked, or by a session that does not hold the attempt.
        """
        with self.database.write() as connection:
            found = locked(connection, attempt)
            if found.state in ("finished", "superseded"):
                return _accepted_of(connection, attempt)
            if found.state != "waiting" and found.session_id not in (None, session):
                raise RecordError(f"attempt {attempt} is not held by session {session}; is this another database?")
            kinds = [k for k in KINDS if k in observations.values and k in found.kinds.split(",")]
            if not kinds:
                raise RecordError(f"the answer to attempt {attempt} has none of {found.kinds}; record it as a failure")
            data = labels.result_bytes(observations, kinds, found.natoms)
            values = {k: np.asarray(observations.values[k], dtype="<f8") for k in kinds}
            blob = store_blob(connection, data)
            accepted = labels.accept(connection, found.calculation_id, attempt, blob, values, observations.energy_zero)
            second = {k: v for k, v in values.items() if k not in accepted}
            unlike = labels.difference(connection, found.calculation_id, second) if second else {}
            late = None if found.state == "running" else f"late: it was {found.failure or found.state}"
            put(
                connection,
                attempt,
                state="finished" if accepted else "superseded",
                failure=None,
                message=late,
                session_id=session,
                ended=True,
                core_seconds=core_seconds,
                settings=dict(observations.settings if settings is None else settings),
                difference=unlike or None,
                blob_id=blob,
            )
            return accepted

    def finish_answer(self, answer: AnswerLike) -> tuple[str, ...]:
        """`finish` with what an answer file holds."""
        return self.finish(answer.attempt, answer.session, answer.observations, answer.core_seconds)

    def fail(self, attempt: int, failure: str, message: str, core_seconds: float) -> bool:
        """Record that an attempt failed, with its class out of `oracles.oracle.FAILURES`; False when it had an answer.

        A call that was cancelled ends as withdrawn, charged, and burns no budget. A worker that was given up as lost
        and reports after all is believed.
        """
        if failure not in FAILURES:
            raise RecordError(f"{failure!r} is no failure class; use one of {', '.join(FAILURES)}")
        with self.database.write() as connection:
            found = locked(connection, attempt)
            if found.state == "withdrawn" and found.started is not None:
                put(connection, attempt, core_seconds=core_seconds)
                return True
            if found.state not in schema.OPEN and found.failure != "worker lost":
                return False
            outcome: dict[str, Any] = (
                {"state": "withdrawn"} if found.cancel else {"state": "failed", "failure": failure}
            )
            put(connection, attempt, **outcome, message=plain_text(message), ended=True, core_seconds=core_seconds)
            return True

    def failure(self, attempt: int) -> str | None:
        """The failure class of an attempt that failed, else None."""
        a = schema.attempt.c
        with self.database.read() as connection:
            found: str | None = connection.scalars(select(a.failure).where(a.id == attempt)).one_or_none()
            return found

    def withdraw(self, attempt: int) -> bool:
        """Take back an attempt that nobody has claimed; whether it was still waiting."""
        a = schema.attempt.c
        with self.database.write() as connection:
            taken = connection.scalars(
                update(schema.attempt)
                .where(a.id == attempt, a.state == "waiting")
                .values(state="withdrawn", ended=now())
                .returning(a.id)
            ).one_or_none()
            return taken is not None

    def withdraw_all(self, attempts: Sequence[int]) -> list[int]:
        """Take back those of some attempts that nobody has claimed, in one transaction; their ids."""
        with self.database.write() as connection:
            return asking.withdraw(connection, attempts)

    def lose(self, attempt: int, why: str, *, blamed: bool = False) -> bool:
        """A task ended without a row, its worker alive or not: a waiting attempt is withdrawn, a running one fails as
        `worker lost`, charged until now. `blamed`: this call ended its worker or its task, which counts against the
        calculation too. False when it had ended otherwise. A late answer is taken all the same."""
        said = plain_text(f"{schema.BLAMED}: {why}" if blamed else why)
        with self.database.write() as connection:
            found = locked(connection, attempt)
            if blamed and found.failure == "worker lost":  # a look at dead processes was faster
                put(connection, attempt, message=said)
                return True
            ended: dict[str, Any] = {"message": said, "ended": True}
            if found.state == "waiting" or (found.state == "running" and found.cancel):
                ended["state"] = "withdrawn"
            elif found.state == "running":
                ended.update(state="failed", failure="worker lost")
            else:
                return False
            put(connection, attempt, charged=found.started is not None, **ended)
            return True

    def withdraw_strays(self, session: int, kept: Collection[int]) -> list[int]:
        """Withdraw the waiting attempts of a controller's `session` that are not among `kept`: those it inserted, and
        could not submit because the database went away in between."""
        a = schema.attempt.c
        with self.database.write() as connection:
            waiting = connection.scalars(select(a.id).where(a.session_id == session, a.state == "waiting")).all()
            strays = sorted(set(waiting) - set(kept))
            for attempt in strays:
                put(connection, attempt, state="withdrawn", ended=True, message="it was never submitted")
            return strays

    def cancel(self, attempt: int) -> bool:
        """Withdraw a waiting attempt; ask the worker of a running one to kill the call. False when it had ended."""
        if self.withdraw(attempt):
            return True
        a = schema.attempt.c
        with self.database.write() as connection:
            flagged = connection.scalars(
                update(schema.attempt).where(a.id == attempt, a.state == "running").values(cancel=True).returning(a.id)
            ).one_or_none()
            return flagged is not None


def _accepted_of(connection: Connection, attempt: int) -> tuple[str, ...]:
    o = schema.observation.c
    kinds = set(connection.scalars(select(o.kind).where(o.attempt_id == attempt)))
    return tuple(k for k in KINDS if k in kinds)
