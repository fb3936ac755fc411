"""The query language: text to a syntax tree, or one error that points at the column.

    kind=FC and natoms<200 and (oracle="lammps" or size>=4) and not failed
    2 <= natoms <= 54, Cu>=3, role in (host, "force constants"), energy is known, age < 2d

`and`, `or`, `not` and parentheses; a comma is an `and`. Comparisons = != < <= > >= either way round, and chains.
`FIELD in (a, b)`, `FIELD not in (...)`, `FIELD is known`, `FIELD is unknown`; a field alone is a flag, or asks whether
it is known. A chemical symbol is a field too: how many such atoms. What the fields mean is in `fields`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from farfield.errors import RecordError

__all__ = ["All", "Comparison", "Flag", "Known", "Membership", "Node", "Not", "QueryError", "Some", "Value", "parse"]

LONGEST = 4000
"""Characters of a query."""
DEEPEST = 60
"""Nested parentheses."""

GRAMMAR = r"""
start: either
?either: both ("or"i both)*
?both: one (("and"i | ",") one)*
?one: "not"i one -> negation
    | "(" either ")" -> group
    | predicate
?predicate: operand (OP operand)+ -> chain
    | NAME "in"i values -> within
    | NAME "not"i "in"i values -> without
    | NAME "is"i "known"i -> known
    | (NAME "is"i "unknown"i | NAME "is"i "not"i "known"i) -> unknown
    | NAME -> flag
values: "(" literal ("," literal)* ")"
?operand: NAME | literal_
?literal: NAME | literal_
?literal_: NUMBER | HEX | SPAN | DATE | STRING
OP: "<=" | ">=" | "!=" | "==" | "=" | "<" | ">"
DATE.3: /\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?/
HEX.2: /\d[0-9]*[a-f][0-9a-f]{3,}(?![A-Za-z0-9_.])/i
SPAN.2: /\d+(\.\d*)?(s|min|h|d|w|y)(?![A-Za-z0-9_])/
NUMBER: /[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?(?![A-Za-z0-9_])/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
STRING: /"[^"\n]*"|'[^'\n]*'/
%ignore /[ \t\r\n]+/
"""

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


class QueryError(RecordError):
    """A query that means nothing; `column` counts from 1, `pointer` shows it below the text."""

    def __init__(self, text: str, column: int, why: str) -> None:
        column = max(1, min(column, len(text) + 1))
        start = max(0, column - 41)
        shown = text[start : start + 76].replace("\n", " ").replace("\t", " ")
        super().__init__(f"the query, column {column}: {why}")
        self.column = column
        self.pointer = f"  {shown}\n  {' ' * (column - 1 - start)}^"


@dataclass(frozen=True)
class Value:
    """A number, a text (a bare word or in quotes), a span of time in seconds, or a date; `raw` as it was written."""

    kind: str
    content: Any
    column: int
    raw: str = ""


@dataclass(frozen=True)
class Comparison:
    """`field` (a name with its column) against a value."""

    field: str
    column: int
    operator: str
    value: Value


@dataclass(frozen=True)
class Membership:
    """`field` among values."""

    field: str
    column: int
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Known:
    """`field` has a value."""

    field: str
    column: int


@dataclass(frozen=True)
class Flag:
    """`field` alone."""

    field: str
    column: int


@dataclass(frozen=True)
class Not:
    """The contrary; what is unknown stays unknown."""

    of: Node


@dataclass(frozen=True)
class All:
    """Every one of these."""

    of: tuple[Node, ...]


@dataclass(frozen=True)
class Some:
    """At least one of these."""

    of: tuple[Node, ...]


Node = Comparison | Membership | Known | Flag | Not | All | Some


def parse(text: str) -> Node | None:
    """The tree of a query, None for an empty one (which selects everything). Raises QueryError."""
    if len(text) > LONGEST:
        raise QueryError(text, LONGEST, f"a query has at most {LONGEST} characters; name a dataset, or ask twice")
    if not text.strip():
        return None
    _check_depth(text)
    try:
        return _parser().parse(text)  # type: ignore[return-value]
    except VisitError as fault:
        if isinstance(fault.orig_exc, _Wrong):
            raise QueryError(text, fault.orig_exc.column, fault.orig_exc.why) from None
        raise
    except _Wrong as fault:
        raise QueryError(text, fault.column, fault.why) from None
    except UnexpectedInput as fault:
        raise QueryError(text, *_unexpected(text, fault)) from None


class _Wrong(Exception):
    def __init__(self, column: int, why: str) -> None:
        super().__init__(why)
        self.column, self.why = column, why


def _check_depth(text: str) -> None:
    depth, quote = 0, ""
    for at, char in enumerate(text, 1):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "(":
            depth += 1
            if depth > DEEPEST:
                raise QueryError(text, at, f"more than {DEEPEST} parentheses inside each other; write it flatter")
        elif char == ")":
            depth -= 1


def _unexpected(text: str, fault: UnexpectedInput) -> tuple[int, str]:
    if isinstance(fault, UnexpectedEOF) or (isinstance(fault, UnexpectedToken) and fault.token.type == "$END"):
        return len(text) + 1, "it ends too early; a comparison, such as natoms<200, is missing or not closed"
    at = (fault.pos_in_stream or 0) + 1
    if isinstance(fault, UnexpectedCharacters):
        char = text[at - 1]
        if char in "\"'":
            return at, "this quote is never closed"
        if char.isdigit() or char in "+-.":
            return at, "this is no number; put text that begins with a digit in quotes"
        return at, f"{char!r} has no meaning here; text with such characters needs quotes"
    word = str(fault.token) if isinstance(fault, UnexpectedToken) else ""
    return at, f"{word!r} does not fit here; join comparisons by and, or, or a comma"


def _column(token: Token) -> int:
    return (token.start_pos or 0) + 1


@v_args(inline=True)
class _Build(Transformer[Token, Node]):
    """Runs while the parser reduces, so that no tree is ever walked recursively."""

    def start(self, node: Node) -> Node:
        return node

    def either(self, *nodes: Node) -> Node:
        return Some(nodes)

    def both(self, *nodes: Node) -> Node:
        return All(nodes)

    def group(self, node: Node) -> Node:
        return node

    def negation(self, node: Node) -> Node:
        return node.of if isinstance(node, Not) else Not(node)

    def chain(self, *parts: Any) -> Node:
        operands, operators = parts[::2], parts[1::2]
        out: list[Node] = []
        for left, operator, right in zip(operands, operators, operands[1:], strict=False):
            out.append(_compared(left, str(operator).replace("==", "="), right))
        return out[0] if len(out) == 1 else All(tuple(out))

    def within(self, name: Token, values: tuple[Value, ...]) -> Node:
        return Membership(str(name), _column(name), values)

    def without(self, name: Token, values: tuple[Value, ...]) -> Node:
        return Not(Membership(str(name), _column(name), values))

    def known(self, name: Token) -> Node:
        return Known(str(name), _column(name))

    def unknown(self, name: Token) -> Node:
        return Not(Known(str(name), _column(name)))

    def flag(self, name: Token) -> Node:
        return Flag(str(name), _column(name))

    def values(self, *tokens: Token) -> tuple[Value, ...]:
        return tuple(_value(t) for t in tokens)


def _compared(left: Token, operator: str, right: Token) -> Comparison:
    """A name on the left is the field, else the one on the right is."""
    if left.type == "NAME":
        return Comparison(str(left), _column(left), operator, _value(right))
    if right.type == "NAME":
        return Comparison(str(right), _column(right), FLIPPED[operator], _value(left))
    raise _Wrong(_column(left), "neither side of this comparison names a field; see `farfield ls --fields`")


SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31557600.0}


def _value(token: Token) -> Value:
    text, column = str(token), _column(token)
    if token.type == "HEX" and not re.fullmatch(r"\d+e\d+", text):
        return Value("text", text, column, text)
    if token.type in ("NUMBER", "HEX"):
        number = float(text)
        if abs(number) > 1e300:
            raise _Wrong(column, "this number is too large")
        whole = text.lstrip("+-").isdigit() and abs(number) < 2**53
        return Value("number", int(text) if whole else number, column, text)
    if token.type == "SPAN":
        unit = text.lstrip("0123456789.")
        return Value("span", float(text[: -len(unit)]) * SECONDS[unit], column)
    if token.type == "DATE":
        return Value("date", text, column)
    return Value("text", text[1:-1] if token.type == "STRING" else text, column)


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", transformer=_Build())
