"""What people ask of a campaign through its database, from any machine: pause, resume, retry, cancel.

A pause is the campaign's state and stays through every restart until somebody resumes it. What is asked of single
calculations is an event that names them; the newest word on a calculation counts. Every function runs in its caller's
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from farfield.db import campaigns, schema, sessions
from farfield.db.blobs import blocks
from farfield.db.calculations import calculation_ids
from farfield.errors import RecordError

__all__ = [
    *("CANCEL", "OVER", "PAUSED", "RETRY", "STOPPED"),
    *("Wishes", "ask_calculations", "asked", "pause", "resume", "wishes"),
]

PAUSED = "paused"
"""State of a campaign that buys nothing new until it is resumed."""
STOPPED = ("drained", "interrupted")
"""States in which a process left a campaign that goes on with the next `farfield run`."""
OVER = ("converged", "ended")
"""States of a campaign that has nothing more to buy."""
RETRY, CANCEL = "retry", "cancel"
"""Kinds of the events that name calculations."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of the process that runs a campaign. `session` holds the campaign; `news` is the id of the newest
    event about single calculations."""

    paused: bool
    stop: bool
    session: int | None
    news: int


def wishes(connection: Connection, campaign: int) -> Wishes:
    """What is asked of the campaign now."""
    c, e = schema.campaign.c, schema.event.c
    row = connection.execute(select(c.state, c.stop_requested, c.session_id).where(c.id == campaign)).one()
    newest = select(e.id).where(e.campaign_id == campaign, e.kind.in_((RETRY, CANCEL))).order_by(e.id.desc()).limit(1)
    news = connection.scalars(newest).one_or_none() or 0
    return Wishes(row.state == PAUSED, bool(row.stop_requested), row.session_id, news)


def pause(connection: Connection, name: str) -> sessions.Holder | None:
    """Buy nothing new until `resume`, whoever runs the campaign; the process that runs it now, if any.

    Raises RecordError for a campaign that is over.
    """
    found = _found(connection, name)
    if found.state in OVER:
        raise RecordError(f"{name} has {found.state}: {found.ending}; there is nothing to pause")
    if found.state != PAUSED:
        _set(connection, found.id, PAUSED)
        campaigns.note(connection, found.id, "pause", "asked to buy nothing new until `farfield resume`", {})
    return found.holder


def resume(connection: Connection, name: str) -> tuple[bool, sessions.Holder | None]:
    """End a pause; whether there was one, and the process that runs the campaign now, if any."""
    found = _found(connection, name)
    if found.state != PAUSED:
        return False, found.holder
    _set(connection, found.id, "running" if found.holder is not None else "interrupted")
    campaigns.note(connection, found.id, "resume", "asked to go on", {})
    return True, found.holder


def ask_calculations(connection: Connection, campaign: int, kind: str, keys: Sequence[str]) -> list[int]:
    """Note that calculations are to be tried anew (`RETRY`) or given up (`CANCEL`); their open attempts of this
    campaign, which a cancel is to end. Raises RecordError for an unknown key."""
    a = schema.attempt.c
    rows = calculation_ids(connection, keys)
    count = f"{len(keys)} calculation" + ("" if len(keys) == 1 else "s")
    text = {RETRY: f"{count} to be tried anew", CANCEL: f"{count} given up"}[kind]
    campaigns.note(connection, campaign, kind, text, {"calculations": sorted(keys)})
    out: list[int] = []
    for block in blocks(sorted(rows.values())):
        query = select(a.id).where(a.calculation_id.in_(block), a.campaign_id == campaign, a.state.in_(schema.OPEN))
        out += connection.scalars(query)
    return sorted(out)


def asked(connection: Connection, campaign: int) -> dict[str, tuple[str, float]]:
    """The newest word on each calculation: its kind and when it was said."""
    e = schema.event.c
    rows = connection.execute(
        select(e.kind, e.data, e.created).where(e.campaign_id == campaign, e.kind.in_((RETRY, CANCEL))).order_by(e.id)
    )
    return {key: (r.kind, r.created) for r in rows for key in r.data["calculations"]}


def _found(connection: Connection, name: str) -> campaigns.StoredCampaign:
    found = campaigns.campaign(connection, name)
    if found is None:
        raise RecordError(f"there is no campaign {name!r} in this database; see `farfield status`")
    return found


def _set(connection: Connection, campaign: int, state: str) -> None:
    connection.execute(update(schema.campaign).where(schema.campaign.c.id == campaign).values(state=state))
