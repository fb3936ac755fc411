"""Select from a database: a query in words, streamed as arrays, atoms, labelled rows or a table of scalars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ase import Atoms
from sqlalchemy import Connection
from sqlalchemy import select as sql_select

from farfield.db import schema
from farfield.db.campaigns import kept_out
from farfield.db.engine import Database
from farfield.db.query.arrays import Block, load_block
from farfield.db.query.compiling import Compiled, compiled, names
from farfield.db.query.grammar import All, Comparison, Flag, Node, Not, Value, parse
from farfield.db.query.labelled import Labelled, load
from farfield.db.query.pages import Hit, count, hits, page
from farfield.db.query.scalars import Scalars, load_scalars
from farfield.errors import RecordError
from farfield.oracles.observation import KINDS

if TYPE_CHECKING:
    import pandas

__all__ = ["Selected", "Selection", "select", "select_labelled"]

PAGE = 400
"""Calculations per read transaction."""
T = TypeVar("T")


def select(database: Database, query: str = "", *, doubted: bool = False, labelled: bool = True) -> Selected:
    """The calculations that fit `query` (see `grammar` and `fields`), in the order in which they came to the database.

    Only those with an accepted E, F or V, unless `labelled` is False; without those that a campaign withdrew or waits
    to have confirmed (decisions A10), unless `doubted` is True or the query speaks of `doubted`. Raises QueryError.
    """
    node = parse(query)
    parts = [n for n in (node, Flag("labelled", 1) if labelled else None) if n is not None]
    whole = None if not parts else parts[0] if len(parts) == 1 else All(tuple(parts))
    return Selected(database, whole, query, doubted=doubted or "doubted" in names(node))


class Selected:
    """A selection, read anew each time it is iterated, in pages: memory does not grow with what it holds."""

    def __init__(
        self, database: Database, node: Node | None, text: str, *, doubted: bool, campaign: str | None = None
    ) -> None:
        self.database, self.text, self._node, self._doubted = database, text, node, doubted
        with database.read() as connection:
            self._out = kept_out(connection, campaign)
            self._query = compiled(connection, node, text, self._out)

    def __iter__(self) -> Iterator[Labelled]:
        """Each calculation with its labels."""
        for found in self._pages(load, PAGE):
            yield from found

    def arrays(self, size: int = 1000) -> Iterator[Block]:
        """Blocks of at most `size` calculations as contiguous arrays: the fastest way."""
        return self._pages(load_block, size)

    def atoms(self) -> Iterator[Atoms]:
        """Each as `Atoms` with its labels on a single-point calculator."""
        return (row.atoms() for row in self)

    def scalars(self) -> Iterator[Scalars]:
        """Each as a narrow row; reads no arrays."""
        for found in self._pages(load_scalars, PAGE):
            yield from found

    def dataframe(self) -> pandas.DataFrame:
        """The narrow rows as a table in memory. Raises RecordError where pandas is not installed."""
        try:
            import pandas
        except ImportError as fault:
            raise RecordError("a dataframe needs pandas; pip install 'farfield[data]'") from fault
        return pandas.DataFrame([row.to_json() for row in self.scalars()], columns=list(Scalars.__dataclass_fields__))

    def count(self) -> int:
        """How many there are."""
        with self.database.read() as connection:
            return count(connection, self._kept())

    def page(self, after: int = 0, size: int = 50) -> list[Scalars]:
        """The next `size` as narrow rows, with ids above `after`."""
        with self.database.read() as connection:
            return load_scalars(connection, page(connection, self._kept(), after, size))

    def _kept(self) -> Compiled:
        """The query without what is in doubt, in SQL."""
        if self._doubted or not self._out:
            return self._query
        node: Node = Not(Flag("doubted", 1))
        whole = node if self._node is None else All((self._node, node))
        with self.database.read() as connection:
            return compiled(connection, whole, self.text, self._out)

    def _pages(self, read: Callable[[Connection, Sequence[Hit]], T], size: int) -> Iterator[T]:
        for found in hits(self.database, self._kept(), size):
            with self.database.read() as connection:
                read_page = read(connection, found)
            yield read_page


@dataclass(frozen=True)
class Selection:
    """A selection by fields; None means any.

    `campaign`: its name; labels that its decisions asked for, whoever paid. `kind`: E, F or V must be there. `natoms`:
    a number or an inclusive (least, most). `role`: of a proposal. `fingerprint`: the oracle's hash, or its beginning.
    `doubted`: also labels that a campaign withdrew, or that wait for their confirmation (decisions A10). `query`: a
    query in words that holds besides.
    """

    campaign: str | None = None
    kind: str | None = None
    natoms: int | tuple[int, int] | None = None
    role: str | None = None
    fingerprint: str | None = None
    doubted: bool = False
    query: str = ""

    def node(self) -> Node:
        """The same as a syntax tree. Raises RecordError for an unknown kind and QueryError for a bad query."""
        if self.kind is not None and (self.kind not in KINDS or KINDS[self.kind].derived):
            raise RecordError(f"cannot select labels of kind {self.kind!r}; use E, F or V")
        parts: list[Node] = [Flag("labelled", 1)]
        for name in ("campaign", "kind", "role", "fingerprint"):
            if getattr(self, name) is not None:
                parts.append(Comparison(name, 1, "=", Value("text", getattr(self, name), 1)))
        if self.natoms is not None:
            least, most = self.natoms if isinstance(self.natoms, tuple) else (self.natoms, self.natoms)
            parts.append(Comparison("natoms", 1, ">=", Value("number", least, 1)))
            parts.append(Comparison("natoms", 1, "<=", Value("number", most, 1)))
        if (also := parse(self.query)) is not None:
            parts.append(also)
        return All(tuple(parts))


def select_labelled(database: Database, selection: Selection | None = None, **filters: Any) -> Iterator[Labelled]:
    """Labelled structures of a `Selection` (or of its fields as keywords), in the order in which they came.

    Raises RecordError for an unknown field, campaign or kind.
    """
    try:
        wanted = selection or Selection(**filters)
    except TypeError as fault:
        known = ", ".join(Selection.__dataclass_fields__)
        raise RecordError(f"cannot select by {', '.join(filters)}; the fields are {known}") from fault
    if wanted.campaign is not None:
        _check_campaign(database, wanted.campaign)
    node = wanted.node()
    doubted = wanted.doubted or "doubted" in names(node)
    return iter(Selected(database, node, wanted.query, doubted=doubted, campaign=wanted.campaign))


def _check_campaign(database: Database, name: str) -> None:
    g = schema.campaign.c
    with database.read() as connection:
        if connection.scalars(sql_select(g.id).where(g.name == name)).one_or_none() is None:
            raise RecordError(f"there is no campaign {name!r} in this database; see `farfield status`")
