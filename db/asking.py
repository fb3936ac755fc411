"""New attempts, many in one transaction, and never one for a calculation that another campaign has under way.

Every function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select, update

from farfield.db import schema
from farfield.db.blobs import blocks
from farfield.db.calculations import calculation_ids
from farfield.db.clock import now
from farfield.db.identity import ordered_kinds
from farfield.errors import CampaignInterrupted, RecordError

__all__ = ["ask", "states", "withdraw"]

Wanted = tuple[str, Sequence[str]]
"""A calculation's key and the kinds to ask of it."""


def ask(
    connection: Connection, campaign: int, wanted: Sequence[Wanted], session: int | None = None, cores: int = 1
) -> list[int | None]:
    """A waiting attempt on `cores` for each calculation, in their order; its id, or None where one is under way.

    What is under way may be another campaign's: its answer is for all, and where it fails it may be asked again. Of two
    that ask at once one gets the attempt. Raises RecordError for an unknown campaign or calculation,
    CampaignInterrupted where `session`, if given, no longer runs the campaign.
    """
    c, s = schema.calculation.c, schema.campaign.c
    owner = connection.execute(select(s.session_id).where(s.id == campaign)).one_or_none()
    if owner is None:
        raise RecordError(f"there is no campaign {campaign} in the record; create it first")
    if session is not None and owner.session_id != session:
        raise CampaignInterrupted("the campaign was taken over by another process; this one ends")
    rows = calculation_ids(connection, [key for key, _ in wanted])
    ids = sorted(rows.values())
    for block in blocks(ids):
        # writers of SQLite are serialised; here the lock, taken in one order, decides who is first
        connection.execute(select(c.id).where(c.id.in_(block)).order_by(c.id).with_for_update()).all()
    numbers, taken = _earlier(connection, ids)
    asking = _proposals(connection, campaign, ids)
    free, new = [], []
    for place, (key, kinds) in enumerate(wanted):
        row = rows[key]
        if row in taken:
            continue
        taken.add(row)
        free.append(place)
        new.append(
            {
                "calculation_id": row,
                "number": numbers.get(row, 0) + 1,
                "campaign_id": campaign,
                "proposal_id": asking.get(row),
                "kinds": ",".join(ordered_kinds(kinds)),
                "state": "waiting",
                "session_id": owner.session_id,
                "cores": cores,
            }
        )
    out: list[int | None] = [None] * len(wanted)
    if new:
        statement = insert(schema.attempt).values(created=now())
        made = connection.scalars(statement.returning(schema.attempt.c.id, sort_by_parameter_order=True), new).all()
        for place, attempt in zip(free, made, strict=True):
            out[place] = attempt
    return out


def _earlier(connection: Connection, ids: Sequence[int]) -> tuple[dict[int, int], set[int]]:
    """The highest number of an attempt by calculation, and the calculations that have one under way."""
    a = schema.attempt.c
    numbers: dict[int, int] = {}
    under_way: set[int] = set()
    for block in blocks(ids):
        query = select(a.calculation_id, a.number, a.state).where(a.calculation_id.in_(block))
        for row, number, state in connection.execute(query):
            numbers[row] = max(number, numbers.get(row, 0))
            if state in schema.OPEN:
                under_way.add(row)
    return numbers, under_way


def _proposals(connection: Connection, campaign: int, ids: Sequence[int]) -> dict[int, int]:
    """The newest proposal of the campaign that names each calculation."""
    p, d = schema.proposal.c, schema.decision.c
    out: dict[int, int] = {}
    for block in blocks(ids):
        query = (
            select(p.calculation_id, func.max(p.id))
            .join(schema.decision, d.id == p.decision_id)
            .where(p.calculation_id.in_(block), d.campaign_id == campaign)
            .group_by(p.calculation_id)
        )
        out.update((row, proposal) for row, proposal in connection.execute(query))
    return out


def states(connection: Connection, attempts: Sequence[int]) -> dict[int, str]:
    """The state of each attempt."""
    a = schema.attempt.c
    out: dict[int, str] = {}
    for block in blocks(attempts):
        out.update((i, state) for i, state in connection.execute(select(a.id, a.state).where(a.id.in_(block))))
    return out


def withdraw(connection: Connection, attempts: Sequence[int]) -> list[int]:
    """Take back those of some attempts that nobody has claimed; their ids."""
    a = schema.attempt.c
    out: list[int] = []
    for block in blocks(attempts):
        out += connection.scalars(
            update(schema.attempt)
            .where(a.id.in_(block), a.state == "waiting")
            .values(state="withdrawn", ended=now())
            .returning(a.id)
        )
    return out
