"""Displaced cells of force-constant columns: which column, which step, and the partner at the opposite step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from farfield.db import schema
from farfield.db.blobs import blocks
from farfield.db.engine import Database
from farfield.db.query import Labelled

__all__ = ["Link", "linked"]

PAGE = 400


@dataclass(frozen=True)
class Link:
    """A displaced cell in its first column: the column's row, the signed step in Å, and the key of the cell at the
    opposite step where that one was bought too (else symmetry supplies it)."""

    column: int
    step: float
    partner: str | None


def linked(database: Database, rows: Iterator[Labelled]) -> Iterator[tuple[Labelled, Link | None]]:
    """`rows` with the link of each that is a displaced cell."""
    page: list[Labelled] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE:
            yield from _page(database, page)
            page = []
    yield from _page(database, page)


def _page(database: Database, page: Sequence[Labelled]) -> Iterator[tuple[Labelled, Link | None]]:
    link, c = schema.fc_link.c, schema.calculation.c
    found: dict[int, Link] = {}
    with database.read() as connection:
        for block in blocks([r.id for r in page]):
            mine = schema.fc_link.alias()
            query = (
                select(mine.c.calculation_id, mine.c.observation_id, mine.c.step, link.step.label("other"), c.key)
                .join(schema.fc_link, link.observation_id == mine.c.observation_id)
                .join(schema.calculation, c.id == link.calculation_id)
                .where(mine.c.calculation_id.in_(block))
                .order_by(mine.c.observation_id, mine.c.ordinal, link.ordinal)
            )
            own = {r.id: r.calculation for r in page}
            for calculation, column, step, other, key in connection.execute(query):
                old = found.get(calculation)
                opposite = key if key != own[calculation] and other * step < 0 else None
                if old is None:
                    found[calculation] = Link(column, step, opposite)
                elif old.column == column and old.partner is None and opposite is not None:
                    found[calculation] = Link(column, old.step, opposite)
    for row in page:
        yield row, found.get(row.id)
