"""Campaign rows: identity, state, the controller's lease, the stop flag, events.

Every function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, false, insert, select, true, update

from farfield.db import schema, sessions
from farfield.db.calculations import insert_new, store_oracle
from farfield.db.clock import now
from farfield.errors import RecordError

__all__ = [
    "KEPT_OUT",
    "StoredCampaign",
    "StoredEvent",
    "campaign",
    "create",
    "events",
    "kept_out",
    "lease",
    "note",
    "plain_text",
    "release",
    "request_stop",
]


@dataclass(frozen=True)
class StoredCampaign:
    """A campaign as it stands. `holder`: the live process that runs it, if any. `created`: seconds since 1970."""

    id: int
    name: str
    state: str
    ending: str | None
    config: dict[str, Any]
    fingerprint: dict[str, Any]
    fingerprint_hash: str
    holder: sessions.Holder | None
    stop_requested: bool
    created: float


KEPT_OUT = ("withdrawn", "another electronic state")
"""Kinds of the events that keep the calculation they name out of fits; its rows stay (decisions C12)."""


@dataclass(frozen=True)
class StoredEvent:
    """A line of a campaign's diary; `time` in seconds since 1970 by the database's clock."""

    time: float
    kind: str
    message: str
    data: dict[str, Any]


def campaign(connection: Connection, name: str) -> StoredCampaign | None:
    """The campaign called `name`."""
    c, o = schema.campaign.c, schema.oracle.c
    row = connection.execute(
        select(schema.campaign, o.fingerprint, o.fingerprint_hash)
        .join(schema.oracle, o.id == c.oracle_id)
        .where(c.name == name)
    ).one_or_none()
    if row is None:
        return None
    holder = None if row.session_id is None else sessions.holder(connection, row.session_id)
    return StoredCampaign(
        row.id,
        row.name,
        row.state,
        row.ending,
        row.config,
        row.fingerprint,
        row.fingerprint_hash,
        holder,
        row.stop_requested,
        row.created,
    )


def create(connection: Connection, name: str, config: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> int:
    """Insert a campaign; its id. Raises RecordError when the name is taken."""
    oracle = store_oracle(connection, fingerprint)
    values = {"name": name, "state": "created", "config": dict(config), "oracle_id": oracle, "created": now()}
    statement = insert_new(connection, schema.campaign).values(values)  # of two at once, one makes it
    new: int | None = connection.scalars(statement.returning(schema.campaign.c.id)).one_or_none()
    if new is None:
        raise RecordError(f"there is a campaign {name} in this database; resume it, or choose another name")
    return new


def lease(
    connection: Connection, campaign_id: int, session: int, silence: float = sessions.LEASE_SECONDS
) -> sessions.Holder | None:
    """Let `session` run the campaign; None then. The process that runs it already where there is a live one, heard of
    within `silence` seconds.

    A stop that was asked of an earlier run is forgotten; a pause is not.
    """
    c = schema.campaign.c
    row = connection.execute(select(c.session_id, c.state).where(c.id == campaign_id).with_for_update()).one_or_none()
    if row is None:
        raise RecordError(f"there is no campaign {campaign_id} in the record")
    if row.session_id not in (None, session):
        found = sessions.holder(connection, row.session_id, silence)
        if found is not None:
            return found
    state = "paused" if row.state == "paused" else "running"
    values = {"session_id": session, "state": state, "ending": None, "stop_requested": false()}
    connection.execute(update(schema.campaign).where(c.id == campaign_id).values(values))
    return None


def release(connection: Connection, campaign_id: int, session: int) -> None:
    """The controller `session` lets go of the campaign; its attempts that nobody claimed are withdrawn."""
    a, c = schema.attempt.c, schema.campaign.c
    connection.execute(
        update(schema.campaign).where(c.id == campaign_id, c.session_id == session).values(session_id=None)
    )
    connection.execute(
        update(schema.attempt)
        .where(a.campaign_id == campaign_id, a.session_id == session, a.state == "waiting")
        .values(state="withdrawn", message="its controller ended", ended=now())
    )


def request_stop(connection: Connection, name: str) -> bool:
    """Ask the process that runs the campaign to drain; False where none does."""
    found = campaign(connection, name)
    if found is None or found.holder is None:
        return False
    connection.execute(update(schema.campaign).where(schema.campaign.c.id == found.id).values(stop_requested=true()))
    return True


def note(connection: Connection, campaign_id: int, kind: str, message: str, data: Mapping[str, Any]) -> None:
    """Append an event."""
    values = {
        "campaign_id": campaign_id,
        "kind": kind,
        "message": plain_text(message),
        "data": dict(data),
        "created": now(),
    }
    connection.execute(insert(schema.event).values(values))


def kept_out(connection: Connection, name: str | None = None) -> set[str]:
    """Calculations that the events of campaign `name`, or of any, keep out of fits, for good or until confirmed."""
    e, c = schema.event.c, schema.campaign.c
    kinds = (*KEPT_OUT, "suspect", "confirmed")
    query = select(e.kind, e.data).join(schema.campaign, c.id == e.campaign_id).where(e.kind.in_(kinds)).order_by(e.id)
    out: set[str] = set()
    for kind, data in connection.execute(query if name is None else query.where(c.name == name)):
        if kind == "confirmed":
            out.discard(str(data["calculation"]))
        else:
            out.add(str(data["calculation"]))
    return out


def plain_text(message: str, limit: int = 4000) -> str:
    """`message` as every database takes it: no NUL, no lone surrogates (a crashed program may say anything)."""
    return message[:limit].encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def events(
    connection: Connection, campaign_id: int, kind: str | None = None, last: int | None = None
) -> list[StoredEvent]:
    """The events of a campaign in order, of one kind or all, or the `last` few of them."""
    e = schema.event.c
    query = select(e.created, e.kind, e.message, e.data).where(e.campaign_id == campaign_id).order_by(e.id.desc())
    if kind is not None:
        query = query.where(e.kind == kind)
    rows = connection.execute(query if last is None else query.limit(last)).all()
    return [StoredEvent(r.created, r.kind, r.message, r.data) for r in reversed(rows)]
