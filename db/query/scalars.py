"""Narrow rows: everything of a calculation that is a number or a word, without reading a blob."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from farfield.db import schema
from farfield.db.blobs import blocks
from farfield.db.query.labelled import proposals
from farfield.db.query.pages import Hit
from farfield.oracles.observation import KINDS

__all__ = ["Scalars", "load_scalars"]


@dataclass(frozen=True)
class Scalars:
    """A calculation in one row. `kinds`: accepted labels, such as "E,F"; with FC where a column is made of it.
    `state`: of its newest attempt ("labelled" where one was accepted, "proposed" where there is none). Energies eV,
    `fmax` eV/Å, `virial` a third of the trace in eV, `time` of the first label in seconds since 1970."""

    id: int
    key: str
    structure: str
    natoms: int
    formula: str
    oracle: str
    fingerprint: str
    campaign: str | None
    decision: int | None
    ordinal: int | None
    role: str | None
    term: str | None
    n1: int | None
    n2: int | None
    n3: int | None
    kinds: str
    state: str
    failure: str | None
    energy: float | None
    fmax: float | None
    virial: float | None
    core_seconds: float | None
    time: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping, fields in order."""
        return asdict(self)


def load_scalars(connection: Connection, hits: Sequence[Hit]) -> list[Scalars]:
    """The calculations of a page in its order."""
    c, s, k = schema.calculation.c, schema.structure.c, schema.oracle.c
    o, a, link = schema.observation.c, schema.attempt.c, schema.fc_link.c
    rows: dict[int, Any] = {}
    values: dict[int, dict[str, tuple[float, float]]] = {}
    tries: dict[int, list[Any]] = {}
    parts: set[int] = set()
    for block in blocks([h.id for h in hits]):
        query = (
            select(c.id, c.key, s.key.label("structure"), s.natoms, s.formula, k.fingerprint, k.fingerprint_hash)
            .join(schema.structure, s.id == c.structure_id)
            .join(schema.oracle, k.id == c.oracle_id)
            .where(c.id.in_(block))
        )
        rows.update((r.id, r) for r in connection.execute(query))
        labels = select(o.calculation_id, o.kind, func.min(o.value), func.min(o.accepted))
        for i, kind, value, time in connection.execute(
            labels.where(o.calculation_id.in_(block), o.detail == "").group_by(o.calculation_id, o.kind)
        ):
            values.setdefault(i, {})[kind] = value, time
        for r in connection.execute(
            select(a.calculation_id, a.state, a.failure, a.core_seconds)
            .where(a.calculation_id.in_(block))
            .order_by(a.id)
        ):
            tries.setdefault(r.calculation_id, []).append(r)
        parts.update(connection.scalars(select(link.calculation_id).where(link.calculation_id.in_(block))))
    asked = proposals(connection, hits)
    return [
        _scalars(rows[h.id], values.get(h.id, {}), tries.get(h.id, []), asked.get(h.id), h.id in parts) for h in hits
    ]


def _scalars(row: Any, values: dict[str, tuple[float, float]], tries: list[Any], asked: Any, part: bool) -> Scalars:
    kinds = [k for k in KINDS if k in values] + (["FC"] if part else [])
    seconds = [t.core_seconds for t in tries if t.core_seconds is not None]
    last = tries[-1] if tries else None
    proposed: Any = (None,) * 8
    if asked is not None:
        proposed = (asked.campaign, asked.number, asked.ordinal, asked.role, asked.term, asked.n1, asked.n2, asked.n3)
    fields: list[Any] = [row.id, row.key, row.structure, row.natoms, row.formula]
    fields += [str(row.fingerprint.get("adapter", "")), row.fingerprint_hash, *proposed, ",".join(kinds)]
    fields.append("labelled" if values else last.state if last else "proposed" if asked is not None else "derived")
    fields.append(None if last is None or values else last.failure)
    fields += [values[k][0] if k in values else None for k in ("E", "F", "V")]
    fields += [sum(seconds) if seconds else None, min((time for _, time in values.values()), default=None)]
    return Scalars(*fields)
