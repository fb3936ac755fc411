"""The members of a frozen dataset as they were pinned, and how two datasets differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlalchemy import select

from farfield.db import schema
from farfield.db.datasets.freezing import PAGE, find
from farfield.db.engine import Database
from farfield.db.query import Labelled
from farfield.db.query.labelled import load
from farfield.db.query.pages import Hit
from farfield.errors import RecordError

__all__ = ["Difference", "difference", "members"]


@dataclass(frozen=True)
class Difference:
    """Calculations (keys) of one dataset alone, of the other alone, and of both with other kinds or values."""

    removed: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]


def members(database: Database, name: str, part: str | None = None) -> Iterator[Labelled]:
    """The members in order with the labels that were pinned, whatever was bought since; of one `part` of the split.

    Raises RecordError for an unknown dataset or part.
    """
    frozen = find(database, name)
    if part is not None and part not in frozen.parts:
        known = ", ".join(frozen.parts) or "none: it is not split"
        raise RecordError(f"dataset {name!r} has no part {part!r}; its parts are {known}")
    return _members(database, frozen.id, frozen.members, part)


def _members(database: Database, dataset: int, count: int, part: str | None) -> Iterator[Labelled]:
    m = schema.dataset_member.c
    for start in range(0, count, PAGE):
        with database.read() as connection:
            query = select(schema.dataset_member).where(
                m.dataset_id == dataset, m.ordinal >= start, m.ordinal < start + PAGE
            )
            if part is not None:
                query = query.where(m.part == part)
            rows = connection.execute(query.order_by(m.ordinal)).all()
            found = load(connection, [Hit(r.calculation_id, None) for r in rows])
        for row, member in zip(rows, found, strict=True):
            meta = dict(row.meta)
            meta["rung"] = None if meta.get("rung") is None else tuple(meta["rung"])
            yield replace(member, labels=member.labels.only(row.kinds.split(",")), part=row.part, **meta)


def difference(database: Database, first: str, second: str) -> Difference:
    """How the dataset `second` differs from `first`. Raises RecordError where there is no such dataset."""
    one, other = find(database, first).id, find(database, second).id
    mine, theirs = schema.dataset_member, schema.dataset_member.alias()
    c = schema.calculation.c

    def alone(a: int, b: int) -> tuple[str, ...]:
        there = select(theirs.c.calculation_id).where(theirs.c.dataset_id == b)
        query = select(c.key).join(mine, mine.c.calculation_id == c.id)
        query = query.where(mine.c.dataset_id == a, mine.c.calculation_id.not_in(there)).order_by(mine.c.ordinal)
        return tuple(connection.scalars(query))

    with database.read() as connection:
        both = (
            select(c.key)
            .join(mine, mine.c.calculation_id == c.id)
            .join(theirs, theirs.c.calculation_id == c.id)
            .where(mine.c.dataset_id == one, theirs.c.dataset_id == other, mine.c.digest != theirs.c.digest)
            .order_by(mine.c.ordinal)
        )
        return Difference(alone(one, other), alone(other, one), tuple(connection.scalars(both)))
