"""Pages of matching calculations in the order of their row ids, at a cost that does not grow with the database.

A first look goes through a window of ids. Where matches are rare, the condition with the fewest candidates in an index
drives the query instead; where none is rare, the windows go on and grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Integer, Result, Select, cast, func, null, select

from farfield.db import schema
from farfield.db.blobs import blocks
from farfield.db.engine import Database
from farfield.db.query.compiling import Compiled
from farfield.db.rows import one_of

__all__ = ["Hit", "count", "hits", "page"]

FIRST, WIDEST = 5_000, 320_000
"""Ids in the first window and in the widest."""
RARE = 30_000
"""Candidates up to which an index drives the query."""
CANDIDATES = 2_000
"""Candidates that are looked up at once."""

c, s, p, d, g = (t.c for t in (schema.calculation, schema.structure, schema.proposal, schema.decision, schema.campaign))


class Hit(NamedTuple):
    """A calculation's row, and the first proposal through which it fits (where the query looks at proposals)."""

    id: int
    proposal: int | None


def page(connection: Connection, query: Compiled, after: int, size: int) -> list[Hit]:
    """The next `size` matches with ids above `after`, fewer only at the end."""
    top = connection.scalar(select(func.max(c.id))) or 0
    out: list[Hit] = []
    window, asked = FIRST, False
    while len(out) < size and after < top:
        out += _some(connection, _hits(query).where(c.id > after, c.id <= after + window), size - len(out))
        if len(out) == size:
            break
        after += window
        if not asked:
            asked = True
            driver = _rarest(connection, query)
            if driver is not None:
                return out + _driven(connection, query, driver, after, size - len(out))
        window = min(2 * window, WIDEST)
    return out


def _some(connection: Connection, wanted: Select[Any], size: int) -> list[Hit]:
    return list(map(Hit._make, connection.execute(wanted.limit(size)).all()))


def _driven(connection: Connection, query: Compiled, driver: Select[Any], after: int, size: int) -> list[Hit]:
    """The next matches among the few candidates of `driver`, which are looked up by their ids: no planner has a say."""
    ids = sorted({i for i in _of_index(connection, driver).scalars() if i > after})
    out: list[Hit] = []
    for block in blocks(ids, CANDIDATES):
        out += _some(connection, _hits(query).where(one_of(connection, c.id, block)), size - len(out))
        if len(out) == size:
            break
    return out


def hits(database: Database, query: Compiled, size: int) -> Iterator[list[Hit]]:
    """All matches in pages of `size`, each in a transaction of its own (a long one would hold back checkpoints)."""
    after = 0
    while True:
        with database.read() as connection:
            found = page(connection, query, after, size)
        if found:
            yield found
        if len(found) < size:
            return
        after = found[-1].id


def count(connection: Connection, query: Compiled) -> int:
    """How many match."""
    ids = _rarest(connection, query)
    matching = _hits(query) if ids is None else _hits(query).where(c.id.in_(ids))
    found: int = connection.scalar(select(func.count()).select_from(matching.order_by(None).subquery())) or 0
    return found


def _hits(query: Compiled) -> Select[Any]:
    """Ids in order, with the first fitting proposal."""
    base = schema.calculation.join(schema.structure, s.id == c.structure_id).join(
        schema.oracle, schema.oracle.c.id == c.oracle_id
    )
    if not query.proposed:
        return select(c.id, cast(null(), Integer)).select_from(base).where(query.clause).order_by(c.id)
    whole = (
        base.outerjoin(schema.proposal, p.calculation_id == c.id)
        .outerjoin(schema.decision, d.id == p.decision_id)
        .outerjoin(schema.campaign, g.id == d.campaign_id)
    )
    return select(c.id, func.min(p.id)).select_from(whole).where(query.clause).group_by(c.id).order_by(c.id)


def _rarest(connection: Connection, query: Compiled) -> Select[Any] | None:
    """A driver with few candidates, the fewest or no more than are looked up at once; None where none has few."""
    best, fewest = None, RARE
    for driver in query.drivers:
        some = driver.limit(fewest + 1).subquery()  # no order: any will do
        found = _of_index(connection, select(func.count()).select_from(some)).scalar() or 0
        if found <= fewest:
            best, fewest = driver.correlate(None), found
        if fewest <= CANDIDATES:
            break  # short enough, whatever the others are
    return best


def _of_index(connection: Connection, statement: Select[Any]) -> Result[Any]:
    """Read by an index: PostgreSQL, which takes a label's kind and value for independent, would read the table."""
    if connection.dialect.name != "postgresql":
        return connection.execute(statement)
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    found = connection.execute(statement)
    connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
    return found
