"""Sessions: one row per process that may hold claims or a campaign, alive by its heartbeat (decisions A5, A6).

Every function runs in its caller's transaction and judges by the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Select, Update, bindparam, case, func, insert, select, update

from farfield.db import schema
from farfield.db.clock import now
from farfield.db.processes import process_start
from farfield.errors import RecordError

__all__ = ["LEASE_SECONDS", "Holder", "beat", "close", "dead", "holder", "open_session", "release", "stale"]

LEASE_SECONDS = 60.0
"""A session that has missed four beats of 15 s has lost what it held."""


@dataclass(frozen=True)
class Holder:
    """A live session, for people: its host, pid, and seconds since its last beat."""

    session: int
    host: str
    boot_id: str
    pid: int
    start_time: float
    silent: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, last heard of {self.silent:.0f} s ago"


def _cancelled() -> Select[tuple[int]]:
    a = schema.attempt.c
    return select(a.id).where(a.session_id == bindparam("mine"), a.state == "running", a.cancel)


def _beat() -> Update:
    s = schema.worker_session.c
    return update(schema.worker_session).where(s.id == bindparam("mine")).values(beat=now())


_CANCELLED = _cancelled()
_BEAT = {
    "sqlite": _beat().returning(_CANCELLED.exists()),
    # a beat may be lost with the power: nobody waits for the disk at the end of this transaction
    "postgresql": _beat()
    .where(func.set_config("synchronous_commit", "off", True) == "off")
    .returning(_CANCELLED.exists()),
}
"""By dialect; made once, since thousands of workers beat."""


def open_session(connection: Connection, host: str, boot_id: str, pid: int, start_time: float) -> int:
    """A new session's id. Raises RecordError on SQLite while a process of another host uses the file (A8).

    `boot_id`: of the host's boot, and after a slash of what else `pid` has its meaning in (a container).
    """
    s = schema.worker_session.c
    if connection.dialect.name == "sqlite":
        boot = boot_id.partition("/")[0]
        elsewhere = (s.boot_id != boot) & ~s.boot_id.startswith(f"{boot}/", autoescape=True)
        other = connection.execute(
            select(s.host, s.pid).where(elsewhere, s.closed.is_(None), s.beat > now() - LEASE_SECONDS)
        ).first()
        if other is not None:
            raise RecordError(
                f"process {other.pid} on another host ({other.host}) uses this SQLite file, which serves one host; "
                f"use PostgreSQL as database.url, or wait {LEASE_SECONDS:.0f} s if that host was rebooted"
            )
    statement = insert(schema.worker_session).returning(s.id)
    new: int = connection.scalars(
        statement.values(host=host, boot_id=boot_id, pid=pid, start_time=start_time, opened=now(), beat=now())
    ).one()
    return new


def beat(connection: Connection, session: int) -> list[int]:
    """Note that `session` lives; the attempts it runs that are to be cancelled. One statement unless there are any."""
    if not connection.scalars(_BEAT[connection.dialect.name], {"mine": session}).one_or_none():
        return []
    return list(connection.scalars(_CANCELLED.order_by(schema.attempt.c.id), {"mine": session}))


def stale(connection: Connection, lease: float, campaign: int | None = None, *, others: bool = True) -> list[int]:
    """Sessions that hold open attempts and are closed or silent for `lease` seconds; with `campaign`, those that hold
    none of its attempts for `LEASE_SECONDS` at least, since who made them may have asked for rarer signs of life, and
    only with `others`."""
    s, a = schema.worker_session.c, schema.attempt.c
    holding = select(a.session_id).where(a.state.in_(schema.OPEN), a.session_id.is_not(None)).distinct()
    silent = s.beat < now() - lease
    if campaign is not None:
        own = s.id.in_(holding.where(a.campaign_id == campaign))
        silent &= own
        if others:
            silent |= s.beat < now() - max(lease, LEASE_SECONDS)
    gone = s.closed.is_not(None) | silent
    return list(connection.scalars(select(s.id).where(s.id.in_(holding), gone).order_by(s.id)))


def dead(connection: Connection, host: str, boot_id: str) -> list[int]:
    """Open sessions of this host and boot whose process is gone."""
    s = schema.worker_session.c
    rows = connection.execute(
        select(s.id, s.pid, s.start_time).where(s.host == host, s.boot_id == boot_id, s.closed.is_(None)).order_by(s.id)
    ).all()
    starts = {pid: process_start(pid) for pid in {r.pid for r in rows}}
    return [r.id for r in rows if starts[r.pid] != r.start_time]


def close(connection: Connection, session: int) -> None:
    """Mark a session as over."""
    s = schema.worker_session.c
    connection.execute(update(schema.worker_session).where(s.id == session, s.closed.is_(None)).values(closed=now()))


def release(connection: Connection, session: int, why: str) -> list[int]:
    """End every open attempt of `session`: waiting ones are withdrawn, running ones fail as `worker lost`.

    A lost call is charged from its start to the session's last beat. The attempts that were running.
    """
    s, a = schema.worker_session.c, schema.attempt.c
    mine = (a.session_id == session, a.state.in_(schema.OPEN))
    connection.execute(
        update(schema.attempt)
        .where(a.session_id == session, a.state == "waiting")
        .values(state="withdrawn", message=f"its controller is gone: {why}", ended=now())
    )
    last = select(s.beat).where(s.id == session).scalar_subquery()
    charge = case((last > a.started, (last - a.started) * a.cores), else_=0.0)
    return list(
        connection.scalars(
            update(schema.attempt)
            .where(*mine)
            .values(state="failed", failure="worker lost", message=why, ended=now(), core_seconds=charge)
            .returning(a.id)
        )
    )


def holder(connection: Connection, session: int, lease: float = LEASE_SECONDS) -> Holder | None:
    """The live session with this id: not closed and heard of within `lease` seconds. None otherwise."""
    s = schema.worker_session.c
    row = connection.execute(
        select(s.host, s.boot_id, s.pid, s.start_time, (now() - s.beat).label("silent")).where(
            s.id == session, s.closed.is_(None)
        )
    ).first()
    if row is None or row.silent > lease:
        return None
    return Holder(session, row.host, row.boot_id, row.pid, row.start_time, max(0.0, row.silent))
