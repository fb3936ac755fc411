"""The fields of the query language: what each means, and how a comparison with it reads in SQL.

A calculation is looked at through each proposal that named it, and is selected where one of these views fits: so
`campaign="a" and decision=3` means one proposal. An unknown value matches no comparison, nor its contrary.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ase.data import chemical_symbols
from ase.formula import Formula
from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, false, func, literal, or_, select
from sqlalchemy.sql import Subquery

from farfield.db import schema
from farfield.db.checked import checked
from farfield.db.clock import now
from farfield.oracles.observation import KINDS

__all__ = ["FIELDS", "ROLES_HINT", "Condition", "Field", "Misfit", "compare", "flag", "known"]

BLOCK = 400
ROLES_HINT = "roles are words such as host, verification, training; `farfield summary` lists those there are"

c, s, k = schema.calculation.c, schema.structure.c, schema.oracle.c
o, p, d, g, a = (
    schema.observation.c,
    schema.proposal.c,
    schema.decision.c,
    schema.campaign.c,
    schema.attempt.c,
)

Bool = ColumnElement[bool]
Read = tuple[str, Any, str]
IdsOf = Callable[[Bool], Select[Any]]


class Misfit(ValueError):
    """A value or an operator that a field does not take; the message says what it takes."""


@dataclass(frozen=True)
class Condition:
    """A comparison in SQL. `driver`: the ids of all calculations that can satisfy it, from an index; None for none.
    `proposed`: it looks at a proposal."""

    clause: Bool
    driver: Select[Any] | None = None
    proposed: bool = False


@dataclass(frozen=True)
class Field:
    """A field. `kind`: "number", "text", "time", "age", "flag" or "set". `column` is its value in SQL, `driven` the ids
    of calculations for which a condition on `column` (or `inner`, where the driver sees another column) holds."""

    name: str
    kind: str
    meaning: str
    column: Any = None
    driven: IdsOf | None = None
    inner: Any = None
    proposed: bool = False
    hexadecimal: bool = False


def _of_structure(clause: Bool) -> Select[Any]:
    return select(c.id).join(schema.structure, s.id == c.structure_id).where(clause)


def _of_proposal(clause: Bool) -> Select[Any]:
    return (
        select(p.calculation_id)
        .join(schema.decision, d.id == p.decision_id)
        .join(schema.campaign, g.id == d.campaign_id)
        .where(clause)
    )


def _of_proposal_alone(clause: Bool) -> Select[Any]:
    return select(p.calculation_id).where(clause)


def _value(kind: str) -> Any:
    return (
        select(o.value).where(o.calculation_id == c.id, o.kind == kind, o.detail == "").correlate(schema.calculation)
    ).scalar_subquery()


def _of_value(kind: str) -> IdsOf:
    return lambda clause: select(o.calculation_id).where(o.kind == kind, o.detail == "", clause)


def _accepted() -> Any:
    return (
        select(func.min(o.accepted)).where(o.calculation_id == c.id, o.detail == "").correlate(schema.calculation)
    ).scalar_subquery()


def _spent() -> Any:
    return (
        select(func.sum(a.core_seconds)).where(a.calculation_id == c.id).correlate(schema.calculation)
    ).scalar_subquery()


def _smallest() -> Any:
    return case((and_(p.n1 <= p.n2, p.n1 <= p.n3), p.n1), (p.n2 <= p.n3, p.n2), else_=p.n3)


def _number(name: str, meaning: str, column: Any, driven: IdsOf | None = None, **more: Any) -> Field:
    return Field(name, "number", meaning, column, driven, **more)


def _text(name: str, meaning: str, column: Any, driven: IdsOf | None = None, **more: Any) -> Field:
    return Field(name, "text", meaning, column, driven, **more)


def _named(name: str, meaning: str, column: Any, kind: str = "text") -> Field:
    driven = _of_proposal if name in ("campaign", "decision") else _of_proposal_alone
    return Field(name, kind, meaning, column, driven, proposed=True)


_ALL = (
    _number("id", "row number of the calculation", c.id, lambda clause: select(c.id).where(clause)),
    _text("key", "key of the calculation, or its beginning", c.key, lambda x: select(c.id).where(x), hexadecimal=True),
    _text("structure", "key of the structure, or its beginning", s.key, _of_structure, hexadecimal=True),
    _number("natoms", "number of atoms", s.natoms, _of_structure),
    _text("formula", "chemical formula, in any order of the elements", s.formula, _of_structure),
    Field("nelements", "number", "number of elements"),
    _text("oracle", "name of the oracle", None),
    _text("fingerprint", "hash of the oracle's fingerprint, or its beginning", k.fingerprint_hash, hexadecimal=True),
    _named("campaign", "campaign that proposed it", g.name),
    _named("decision", "number of the decision", d.number, "number"),
    _named("ordinal", "place within the decision", p.ordinal, "number"),
    _named("role", "what it was proposed as", p.role),
    _named("term", "the term of the estimate that asked for it", p.term),
    _named("size", "min(n1, n2, n3) of its supercell", _smallest(), "number"),
    _named("n1", "conventional cells along the first vector", p.n1, "number"),
    _named("n2", "along the second", p.n2, "number"),
    _named("n3", "along the third", p.n3, "number"),
    Field("kind", "set", "E, F or V: such a label is there; FC: a force-constant column is made of it"),
    _number("energy", "accepted energy, eV", _value("E"), _of_value("E"), inner=o.value),
    _number("energy_per_atom", "accepted energy per atom, eV", _value("E") / s.natoms),
    _number("fmax", "largest accepted force, eV/Å", _value("F"), _of_value("F"), inner=o.value),
    _number("virial", "a third of the trace of the accepted virial, eV", _value("V"), _of_value("V"), inner=o.value),
    Field("time", "time", "when its first label came, as 2026-01-31 or 2026-01-31T12:00 (UTC)", _accepted()),
    Field("age", "age", "how long ago its first label came, as 30min, 12h, 2d, 1w", _accepted()),
    _number("core_seconds", "what its calls cost, core-seconds", _spent()),
    Field("failure", "set", "class of a failed call, such as 'timed out'"),
    Field("source", "set", "file that it was imported from"),
    Field("dataset", "set", "frozen dataset that it is a member of"),
    Field("labelled", "flag", "it has an accepted label"),
    Field("failed", "flag", "a call failed, none is under way and none was accepted"),
    Field("running", "flag", "a call is waiting or running"),
    Field("imported", "flag", "a label was imported"),
    Field("doubted", "flag", "a campaign withdrew its labels, or waits for their confirmation"),
)
FIELDS: dict[str, Field] = {f.name: f for f in _ALL}
SYMBOLS = set(chemical_symbols[1:])


def compare(connection: Connection, name: str, operator: str, values: Sequence[Read]) -> Condition:
    """`name` `operator` one value, or "in" several; each value as (kind, content, raw) of the grammar. Raises
    Misfit."""
    if name in SYMBOLS:
        return _by_formula(connection, lambda f: f.get(name, 0), operator, [_as_number(v) for v in values])
    field = FIELDS[name]
    if name == "nelements":
        return _by_formula(connection, lambda f: len(f), operator, [_as_number(v) for v in values])
    if name == "oracle":
        return _by_oracle(connection, operator, [_as_text(v) for v in values])
    if field.kind == "set":
        return _set(name, operator, [_as_text(v) for v in values])
    if field.kind == "flag":
        raise Misfit(f"{name} is yes or no; write {name} or not {name}")
    if field.kind == "text":
        return _texts(field, operator, [_as_text(v) for v in values])
    if field.kind == "number":
        return _plain(field, operator, [_as_number(v) for v in values])
    return _times(field, operator, values)


def flag(connection: Connection, name: str, doubted: Collection[str]) -> Condition:
    """`name` alone: a flag, else whether it is known. `doubted`: keys of the calculations in doubt. Raises Misfit."""
    if name == "labelled":
        return Condition(exists().where(o.calculation_id == c.id, o.detail == ""))
    if name == "running":
        return _attempts(a.state.in_(schema.OPEN))
    if name == "imported":
        return _attempts(a.source_id.is_not(None))
    if name == "failed":
        mine = a.calculation_id == c.id
        over = ~exists().where(mine, a.state.in_((*schema.OPEN, "finished", "superseded")))
        failed = _attempts(a.state == "failed")
        return Condition(and_(failed.clause, over), failed.driver)
    if name == "doubted":
        keys = sorted(doubted)
        clause = or_(false(), *(c.key.in_(keys[i : i + BLOCK]) for i in range(0, len(keys), BLOCK)))
        return Condition(clause, select(c.id).where(clause))
    if name in SYMBOLS:
        return _by_formula(connection, lambda f: f.get(name, 0), ">", [0])
    return known(connection, name)


def known(connection: Connection, name: str) -> Condition:
    """`name` has a value. Raises Misfit for a field that always has one or never is one."""
    field = FIELDS.get(name)
    if field is not None and field.kind == "set" and name != "kind":
        return _set(name, "known", [])
    if field is None or field.kind in ("flag", "set") or name in ("nelements", "oracle"):
        raise Misfit(f"{name} is always known; compare it with something")
    clause = field.column.is_not(None)
    driver = None
    if field.driven is not None and field.proposed:
        driver = field.driven(clause)
    elif field.inner is not None and field.driven is not None:
        driver = field.driven(field.inner.is_not(None))
    return Condition(clause, driver, field.proposed)


# -- by the kind of the field ----------------------------------------------------------------------------------------

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
}


def _clause(column: Any, operator: str, values: Sequence[Any]) -> Bool:
    if operator == "in":
        return column.in_(list(values))  # type: ignore[no-any-return]
    return COMPARE[operator](column, values[0])  # type: ignore[no-any-return]


def _plain(field: Field, operator: str, values: Sequence[Any]) -> Condition:
    clause = _clause(checked(field.column), operator, values)
    if field.driven is None or operator == "!=":
        return Condition(clause, None, field.proposed)
    looked_up = _clause(field.column if field.inner is None else field.inner, operator, values)
    if field.name == "size" and operator in ("=", ">", ">="):
        looked_up = and_(p.n1 >= values[0], looked_up)  # what the index begins with
    return Condition(clause, field.driven(looked_up), field.proposed)


def _texts(field: Field, operator: str, values: Sequence[str]) -> Condition:
    if operator not in ("=", "!=", "in"):
        raise Misfit(f"{field.name} is text, which has no order; use = or != or in")
    if field.hexadecimal:
        clause, looked_up = (
            or_(false(), *(_begins(column, v.lower()) for v in values))
            for column in (checked(field.column), field.column)
        )
        if operator == "!=":
            return Condition(~clause)
        return Condition(clause, None if field.driven is None else field.driven(looked_up))
    if field.name == "formula":
        values = [_hill(v) for v in values]
    return _plain(field, operator, values)


def _begins(column: Any, start: str) -> Bool:
    if not re.fullmatch(r"[0-9a-f]{1,64}", start):
        raise Misfit("a key consists of hexadecimal digits; give its beginning, as `farfield ls` shows it")
    if len(start) == 64:
        return column == start  # type: ignore[no-any-return]
    return and_(column >= start, column < start + "g")  # hexadecimal digits end before g


def _hill(text: str) -> str:
    try:
        found = Formula(text)
        if not text or not set(found.count()) <= SYMBOLS:
            raise ValueError
        return found.format("hill")
    except (ValueError, KeyError, IndexError, RecursionError):
        raise Misfit(f"{text!r} is no chemical formula; write it as Cu107 or SiC") from None


def _times(field: Field, operator: str, values: Sequence[Read]) -> Condition:
    moments = [_moment(field.name, v) for v in values]
    if operator == "in":
        raise Misfit(f"{field.name} has no list of values; compare it with < and >")
    if field.kind == "age":
        operator = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
    clause = _clause(field.column, operator, moments)
    # a label is accepted in the transaction that ends its attempt: the index on that, and an hour to spare
    spare = {"<": 3600.0, "<=": 3600.0, ">": -3600.0, ">=": -3600.0}.get(operator)
    if spare is None:
        return Condition(clause)
    return Condition(clause, select(a.calculation_id).where(_clause(a.ended, operator, [moments[0] + spare])))


def _moment(name: str, value: Read) -> Any:
    kind, content, _ = value
    if name == "age":
        if kind != "span":
            raise Misfit("age is compared with a span such as 30min, 12h, 2d or 1w")
        return now() - literal(float(content))
    if kind in ("date", "text"):
        try:
            return datetime.datetime.fromisoformat(content).replace(tzinfo=datetime.UTC).timestamp()
        except (ValueError, OverflowError):
            pass
    raise Misfit("time is compared with a date such as 2026-01-31 or 2026-01-31T12:00")


def _set(name: str, operator: str, values: Sequence[str]) -> Condition:
    if operator not in ("=", "!=", "in", "known"):
        raise Misfit(f"{name} has no order; use = or != or in")
    if name == "kind":
        clause, driver = _kinds(values)
    elif name == "failure":
        found = _attempts(a.failure.is_not(None) if operator == "known" else a.failure.in_(values))
        clause, driver = found.clause, found.driver
    elif name == "source":
        r = schema.source.c
        named = select(r.id) if operator == "known" else select(r.id).where(r.name.in_(values))
        found = _attempts(a.source_id.in_(named))
        clause, driver = found.clause, found.driver
    else:
        m, t = schema.dataset_member.c, schema.dataset.c
        of = select(t.id) if operator == "known" else select(t.id).where(t.name.in_(values))
        clause = exists().where(m.calculation_id == c.id, m.dataset_id.in_(of))
        driver = select(m.calculation_id).where(m.dataset_id.in_(of))
    return Condition(~clause, None) if operator == "!=" else Condition(clause, driver)


def _kinds(values: Sequence[str]) -> tuple[Bool, Select[Any] | None]:
    """Labels that are there. Only FC columns are few enough to drive."""
    for value in values:
        if value not in KINDS:
            raise Misfit(f"{value!r} is no kind; the kinds are {', '.join(KINDS)}")
    link = schema.fc_link.c
    plain = [v for v in values if v != "FC"]
    clauses: list[Bool] = []
    if plain:
        clauses.append(exists().where(o.calculation_id == c.id, o.detail == "", o.kind.in_(plain)))
    if "FC" in values:
        clauses.append(exists().where(link.calculation_id == c.id))
    return or_(*clauses), None if plain else select(link.calculation_id)


def _attempts(clause: Bool) -> Condition:
    return Condition(exists().where(a.calculation_id == c.id, clause), select(a.calculation_id).where(clause))


def _by_oracle(connection: Connection, operator: str, values: Sequence[str]) -> Condition:
    """An oracle's name is in its fingerprint; there are few oracles."""
    if operator not in ("=", "!=", "in"):
        raise Misfit("oracle is text, which has no order; use = or != or in")
    rows = connection.execute(select(k.id, k.fingerprint)).all()
    ids = [i for i, fingerprint in rows if str(fingerprint.get("adapter")) in values]
    return Condition(~c.oracle_id.in_(ids) if operator == "!=" else c.oracle_id.in_(ids))


def _by_formula(
    connection: Connection, measure: Callable[[dict[str, int]], int], operator: str, numbers: Sequence[float]
) -> Condition:
    """Counts of atoms come from the formulas there are, of which there are few."""
    test = (lambda n: n in numbers) if operator == "in" else (lambda n: COMPARE[operator](n, numbers[0]))
    fit = [text for text in connection.scalars(_formulas()) if test(measure(Formula(text).count()))]
    clause, looked_up = (
        or_(false(), *(column.in_(fit[i : i + BLOCK]) for i in range(0, len(fit), BLOCK)))
        for column in (checked(s.formula), s.formula)
    )
    return Condition(clause, _of_structure(looked_up))


def _formulas() -> Select[Any]:
    """Every formula once, one index step each."""
    first: Any = select(func.min(s.formula).label("formula")).cte("formulas", recursive=True)
    later = schema.structure.alias("later")
    step = select(func.min(later.c.formula)).where(later.c.formula > first.c.formula).scalar_subquery()
    walk: Subquery | Any = first.union_all(select(step).where(first.c.formula.is_not(None)))
    return select(walk.c.formula).where(walk.c.formula.is_not(None))


def _as_number(value: Read) -> float:
    kind, content, _ = value
    if kind != "number":
        raise Misfit(f"it is compared with a number, not with {content!r}")
    return content  # type: ignore[no-any-return]


def _as_text(value: Read) -> str:
    kind, content, raw = value
    if kind in ("span", "date"):
        raise Misfit("put this text in quotes")
    return raw if kind == "number" and raw else str(content)
