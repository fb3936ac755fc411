"""Rows of attempts: read under a lock, and changed. The statements are made once, which halves what a claim costs.

Every function runs in its caller's transaction.
"""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy import Connection, Row, Update, bindparam, func, select, update

from farfield.db import schema
from farfield.db.clock import now
from farfield.errors import RecordError

__all__ = ["locked", "put", "take"]

a, c, s, o = schema.attempt.c, schema.calculation.c, schema.structure.c, schema.observation.c

_LOCKED = (
    select(schema.attempt, s.natoms)
    .join(schema.calculation, c.id == a.calculation_id)
    .join(schema.structure, s.id == c.structure_id)
    .where(a.id == bindparam("row"))
    .with_for_update(of=schema.attempt)
)
_MINE = "," + a.kinds + ","
_ACCEPTED = (
    select(func.count())
    .where(o.calculation_id == a.calculation_id, o.detail == "", _MINE.like("%," + o.kind + ",%"))
    .correlate(schema.attempt)
    .scalar_subquery()
)
_ASKED = 1 + func.length(a.kinds) - func.length(func.replace(a.kinds, ",", ""))
_TAKE = (
    update(schema.attempt)
    .where(a.id == bindparam("row"), a.state == "waiting", _ACCEPTED < _ASKED)
    .values(state="running", session_id=bindparam("mine"), started=now())
    .returning(a.id)
)


def locked(connection: Connection, attempt: int) -> Row[Any]:
    """The attempt's row, locked for this transaction, with the number of atoms of its cell. Raises RecordError."""
    row = connection.execute(_LOCKED, {"row": attempt}).one_or_none()
    if row is None:
        raise RecordError(f"there is no attempt {attempt} in the record; is this another database?")
    return row


def take(connection: Connection, attempt: int, session: int) -> bool:
    """Set an attempt to running, held by `session`, where it is waiting and not all it asks for has been answered;
    whether it was. One statement, since every call begins with it."""
    return connection.scalars(_TAKE, {"row": attempt, "mine": session}).one_or_none() is not None


def put(connection: Connection, attempt: int, *, ended: bool = False, charged: bool = False, **values: Any) -> None:
    """Set columns of an attempt; `ended`: it ends at this moment of the database's clock; `charged`: for all the time
    since it was started."""
    given = {f"new_{name}": value for name, value in values.items()}
    connection.execute(_change(tuple(values), ended, charged), {"row": attempt, **given})


@functools.cache
def _change(names: tuple[str, ...], ended: bool, charged: bool) -> Update:
    changes: dict[str, Any] = {name: bindparam(f"new_{name}", type_=a[name].type) for name in names}
    if ended:
        changes["ended"] = now()
    if charged:
        changes["core_seconds"] = (now() - a.started) * a.cores
    return update(schema.attempt).where(a.id == bindparam("row")).values(changes)
