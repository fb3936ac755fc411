"""A syntax tree to SQL: one condition, and the index reads that could drive it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ase.data import chemical_symbols
from sqlalchemy import ColumnElement, Connection, Select, and_, not_, or_, true

from farfield.db.query.fields import FIELDS, Condition, Misfit, compare, flag, known
from farfield.db.query.grammar import All, Comparison, Flag, Known, Membership, Node, Not, QueryError, Some, Value

__all__ = ["Compiled", "compiled", "names"]


@dataclass(frozen=True)
class Compiled:
    """`clause` selects; each of `drivers` gives the ids of all that can fit, from an index; `proposed`: the clause
    looks at proposals."""

    clause: ColumnElement[bool]
    drivers: tuple[Select[Any], ...] = ()
    proposed: bool = False


def compiled(connection: Connection, node: Node | None, text: str = "", doubted: Collection[str] = ()) -> Compiled:
    """The condition of `node` (None: everything). `text` is the query it came from, for errors; `doubted` are the keys
    that the flag of that name is true for. Raises QueryError."""
    return Compiled(true()) if node is None else _Compiler(connection, text, doubted).of(node)


def names(node: Node | None) -> set[str]:
    """The fields that a query speaks of."""
    if isinstance(node, All | Some):
        return set().union(*(names(n) for n in node.of))
    if isinstance(node, Not):
        return names(node.of)
    return set() if node is None else {node.field}


class _Compiler:
    def __init__(self, connection: Connection, text: str, doubted: Collection[str]) -> None:
        self.connection, self.text, self.doubted = connection, text, doubted

    def of(self, node: Node) -> Compiled:
        if isinstance(node, Not):
            inner = self.of(node.of)
            return Compiled(not_(inner.clause), (), inner.proposed)
        if isinstance(node, All | Some):
            parts = [self.of(n) for n in node.of]
            proposed = any(x.proposed for x in parts)
            if isinstance(node, Some):
                return Compiled(or_(*(x.clause for x in parts)), (), proposed)
            return Compiled(and_(*(x.clause for x in parts)), sum((x.drivers for x in parts), ()), proposed)
        found = self._leaf(node)
        return Compiled(found.clause, () if found.driver is None else (found.driver,), found.proposed)

    def _leaf(self, node: Comparison | Membership | Known | Flag) -> Condition:
        name = node.field
        if name not in FIELDS and name not in chemical_symbols[1:]:
            close = get_close_matches(name, FIELDS, n=1)
            mend = f"did you mean {close[0]}?" if close else "`farfield ls --fields` lists the fields"
            raise QueryError(self.text, node.column, f"there is no field {name!r}; {mend}")
        try:
            if isinstance(node, Comparison):
                return compare(self.connection, name, node.operator, [_plain(node.value)])
            if isinstance(node, Membership):
                return compare(self.connection, name, "in", [_plain(v) for v in node.values])
            if isinstance(node, Flag):
                return flag(self.connection, name, self.doubted)
            return known(self.connection, name)
        except Misfit as fault:
            column = node.value.column if isinstance(node, Comparison) else node.column
            raise QueryError(self.text, column, str(fault)) from None


def _plain(value: Value) -> tuple[str, Any, str]:
    return value.kind, value.content, value.raw
