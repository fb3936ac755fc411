"""The cost of a campaign, added up once: attempts that can change no more are kept as sums, the rest is added live.

An attempt is final when it was answered, when it failed otherwise than by a lost worker (whose answer may come late),
or when it was withdrawn before it began. The few others are listed beside the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from farfield.db import schema
from farfield.db.calculations import insert_new
from farfield.db.checked import checked
from farfield.db.clock import now
from farfield.db.rows import one_of

__all__ = ["MANY", "roll_up", "shares"]

MANY = 500
"""Attempts that are worth a new row."""

Row = tuple[str, str, int, str, str | None, int, float]
"""Role, kinds, number of atoms, state, failure class; calls, core-seconds."""

a, p, s, c = (t.c for t in (schema.attempt, schema.proposal, schema.structure, schema.calculation))
FINAL = or_(
    a.state.in_(("finished", "superseded")),
    and_(a.state == "failed", a.failure != "worker lost"),
    and_(a.state == "withdrawn", a.started.is_(None)),
)


def shares(connection: Connection, campaign: int) -> list[Row]:
    """Calls that started, by role (outside a decision "verify"), kinds, size, state and failure class."""
    upto, held, unsettled = _latest(connection, campaign)
    live = connection.execute(_grouped(_rest(connection, campaign, upto, unsettled))).all()
    return _merged([*held, *(tuple(r) for r in live)])


def roll_up(connection: Connection, campaign: int) -> bool:
    """Add what has become final since the last time to the sums, where it is much; whether it was."""
    upto, held, unsettled = _latest(connection, campaign)
    top = connection.scalar(select(func.max(a.id)).where(a.campaign_id == campaign)) or 0
    rest = _rest(connection, campaign, upto, unsettled)
    count = connection.scalar(select(func.count()).select_from(schema.attempt).where(rest, FINAL)) or 0
    if count < MANY:
        return False
    left = connection.scalars(select(a.id).where(rest, a.id <= top, ~func.coalesce(FINAL, False)).order_by(a.id)).all()
    new = connection.execute(_grouped(and_(rest, a.id <= top, FINAL))).all()
    content = {"rows": _merged([*held, *(tuple(r) for r in new)]), "unsettled": list(left)}
    values = {"campaign_id": campaign, "upto": top, "content": content, "created": now()}
    connection.execute(insert_new(connection, schema.rollup).values(values))
    return True


def _latest(connection: Connection, campaign: int) -> tuple[int, list[Row], list[int]]:
    r = schema.rollup.c
    row = connection.execute(
        select(r.upto, r.content).where(r.campaign_id == campaign).order_by(r.upto.desc()).limit(1)
    ).one_or_none()
    if row is None:
        return 0, [], []
    return row.upto, [tuple(x) for x in row.content["rows"]], list(row.content["unsettled"])


def _rest(connection: Connection, campaign: int, upto: int, unsettled: Sequence[int]) -> ColumnElement[bool]:
    mine = checked(a.campaign_id) if upto else a.campaign_id  # the few behind `upto`, not all of the campaign
    return and_(mine == campaign, or_(a.id > upto, one_of(connection, a.id, unsettled)) if unsettled else a.id > upto)


def _grouped(which: ColumnElement[bool]) -> Select[Any]:
    role = func.coalesce(p.role, "verify")
    names = (role, a.kinds, s.natoms, a.state, a.failure)
    return (
        select(*names, func.count(), func.coalesce(func.sum(a.core_seconds), 0.0))
        .select_from(schema.attempt)
        .join(schema.calculation, c.id == a.calculation_id)
        .join(schema.structure, s.id == c.structure_id)
        .outerjoin(schema.proposal, p.id == a.proposal_id)
        .where(a.started.is_not(None), which)
        .group_by(*names)
    )


def _merged(rows: Sequence[Any]) -> list[Row]:
    sums: dict[tuple[Any, ...], tuple[int, float]] = {}
    for *names, calls, seconds in rows:
        old = sums.get(tuple(names), (0, 0.0))
        sums[tuple(names)] = (old[0] + int(calls), old[1] + float(seconds))
    return [(*names, *held) for names, held in sorted(sums.items(), key=lambda x: repr(x[0]))]
