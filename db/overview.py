"""A campaign at a glance, at a cost that does not grow with it: its newest rounds as counts, its newest events.

No structure, input or state of a decision is read. Every function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select

from farfield.db import schema
from farfield.db.clock import now

__all__ = ["Call", "Group", "Line", "StoredRound", "calls", "line_count", "lines", "open_count", "rounds"]


@dataclass(frozen=True)
class Group:
    """Proposals of one decision that are alike: the supercell, the role, the kinds asked, and how many."""

    rung: tuple[int, int, int]
    role: str
    kinds: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class StoredRound:
    """A decision without its arrays: groups of proposals in order, core-seconds charged, the estimate it gave."""

    number: int
    reason: str
    summary: dict[str, Any]
    groups: tuple[Group, ...]
    core_seconds: float
    estimate: dict[str, Any] | None


@dataclass(frozen=True)
class Call:
    """A call that runs: seconds since it began, the size of its cell, and where."""

    attempt: int
    calculation: str
    natoms: int
    formula: str
    kinds: str
    host: str
    pid: int
    seconds: float


@dataclass(frozen=True)
class Line:
    """A line of a campaign's diary; `id` grows, `time` is in seconds since 1970 by the database's clock."""

    id: int
    time: float
    kind: str
    message: str
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"id": self.id, "time": self.time, "kind": self.kind, "message": self.message, "data": self.data}


def rounds(connection: Connection, campaign: int, last: int | None = None) -> list[StoredRound]:
    """The decisions of a campaign, oldest first, or the `last` few of them."""
    a, d, p, e = schema.attempt.c, schema.decision.c, schema.proposal.c, schema.estimate.c
    query = (
        select(d.id, d.number, d.reason, d.summary, e.content)
        .outerjoin(schema.estimate, e.decision_id == d.id)
        .where(d.campaign_id == campaign)
        .order_by(d.number.desc())
    )
    out = []
    for row in reversed(connection.execute(query if last is None else query.limit(last)).all()):
        alike = connection.execute(
            select(p.n1, p.n2, p.n3, p.role, p.kinds, func.count(), func.min(p.ordinal))
            .where(p.decision_id == row.id)
            .group_by(p.n1, p.n2, p.n3, p.role, p.kinds)
            .order_by(func.min(p.ordinal))
        )
        groups = tuple(Group((n1, n2, n3), role, tuple(kinds.split(",")), n) for n1, n2, n3, role, kinds, n, _ in alike)
        seconds = connection.scalars(
            select(func.coalesce(func.sum(a.core_seconds), 0.0))
            .select_from(schema.proposal)
            .join(schema.attempt, and_(a.calculation_id == p.calculation_id, a.proposal_id == p.id))
            .where(p.decision_id == row.id, a.state != "running")
        ).one()
        out.append(StoredRound(row.number, row.reason, row.summary, groups, float(seconds), row.content))
    return out


def open_count(connection: Connection, campaign: int) -> int:
    """Proposals of the newest decision that miss a kind."""
    d, o, p = schema.decision.c, schema.observation.c, schema.proposal.c
    newest = select(func.max(d.id)).where(d.campaign_id == campaign).scalar_subquery()
    there = (
        select(func.count())
        .where(o.calculation_id == p.calculation_id, o.detail == "", p.kinds.contains(o.kind))
        .correlate(schema.proposal)
        .scalar_subquery()
    )
    asked = (func.length(p.kinds) + 1) / 2  # kinds of one letter, with commas between them
    query = select(func.count()).select_from(schema.proposal).where(p.decision_id == newest, there < asked)
    return int(connection.scalars(query).one())


def calls(connection: Connection, campaign: int, most: int = 50) -> list[Call]:
    """The calls that run, the longest first, at most so many."""
    a, c, s, w = schema.attempt.c, schema.calculation.c, schema.structure.c, schema.worker_session.c
    rows = connection.execute(
        select(a.id, c.key, s.natoms, s.formula, a.kinds, w.host, w.pid, (now() - a.started).label("seconds"))
        .join(schema.calculation, c.id == a.calculation_id)
        .join(schema.structure, s.id == c.structure_id)
        .join(schema.worker_session, w.id == a.session_id)
        .where(a.campaign_id == campaign, a.state == "running")
        .order_by(a.started, a.id)
        .limit(most)
    )
    return [Call(r.id, r.key, r.natoms, r.formula, r.kinds, r.host, r.pid, max(0.0, r.seconds)) for r in rows]


def lines(
    connection: Connection,
    campaign: int,
    *,
    kinds: Sequence[str] = (),
    contains: str | None = None,
    since: float | None = None,
    after: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Line]:
    """Lines of the diary in order: the newest `limit` of those that fit, or with `after` the first beyond that id.

    `kinds`: of these kinds alone. `contains`: a text in the message, in any case. `since`: seconds since 1970.
    """
    e = schema.event.c
    query = select(e.id, e.created, e.kind, e.message, e.data).where(e.campaign_id == campaign)
    if kinds:
        query = query.where(e.kind.in_(kinds))
    if contains is not None:
        query = query.where(e.message.icontains(contains, autoescape=True))
    if since is not None:
        query = query.where(e.created >= since)
    if before is not None:
        query = query.where(e.id < before)
    if after is not None:
        rows = connection.execute(query.where(e.id > after).order_by(e.id).limit(limit)).all()
    else:
        rows = connection.execute(query.order_by(e.id.desc()).limit(limit)).all()[::-1]
    return [Line(r.id, r.created, r.kind, r.message, r.data) for r in rows]


def line_count(connection: Connection, campaign: int) -> dict[str, int]:
    """How many lines there are of each kind."""
    e = schema.event.c
    query = select(e.kind, func.count()).where(e.campaign_id == campaign).group_by(e.kind).order_by(e.kind)
    return {kind: n for kind, n in connection.execute(query)}
