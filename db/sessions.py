"""Sessions: one row per process that may hold claims or a campaign, alive by its heartbeat (decisions A5, A6).

Every function runs in its caller's transaction and judges by the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, case, insert, select, update

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


def open_session(connection: Connection, host: str, boot_id: str, pid: int, start_time: float) -> int:
    """A new session's id. Raises RecordError on SQLite while a process of another host uses the file (A8)."""
    s = schema.worker_session.c
    if connection.dialect.name == "sqlite":
        other = connection.execute(
            select(s.host, s.pid).where(s.boot_id != boot_id, s.closed.is_(None), s.beat > now() - LEASE_SECONDS)
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
    """Note that `session` lives; the attempts it runs that are to be cancelled."""
    s, a = schema.worker_session.c, schema.attempt.c
    connection.execute(update(schema.worker_session).where(s.id == session).values(beat=now()))
    return list(
        connection.scalars(select(a.id).where(a.session_id == session, a.state == "running", a.cancel).order_by(a.id))
    )


def stale(connection: Connection, lease: float) -> list[int]:
    """Sessions that hold open attempts and are closed or silent for `lease` seconds."""
    s, a = schema.worker_session.c, schema.attempt.c
    gone = s.closed.is_not(None) | (s.beat < now() - lease)
    holding = select(a.session_id).where(a.state.in_(schema.OPEN), a.session_id.is_not(None)).distinct()
    return list(connection.scalars(select(s.id).where(s.id.in_(holding), gone).order_by(s.id)))


def dead(connection: Connection, host: str, boot_id: str) -> list[int]:
    """Open sessions of this host and boot whose process is gone."""
    s = schema.worker_session.c
    rows = connection.execute(
        select(s.id, s.pid, s.start_time).where(s.host == host, s.boot_id == boot_id, s.closed.is_(None)).order_by(s.id)
    ).all()
    return [r.id for r in rows if process_start(r.pid) != r.start_time]


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
    charge = case((last > a.started, last - a.started), else_=0.0)
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
