"""Everything the database knows of one calculation."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from farfield.db import schema
from farfield.db.engine import Database
from farfield.db.query.labelled import load
from farfield.db.query.pages import Hit
from farfield.errors import RecordError

__all__ = ["details"]


def details(database: Database, name: str) -> dict[str, Any]:
    """A JSON-able account of the calculation with the row id or the beginning of a key `name`.

    Raises RecordError where none or several fit.
    """
    c, k, a, o = schema.calculation.c, schema.oracle.c, schema.attempt.c, schema.observation.c
    p, d, g, r, w = (
        t.c for t in (schema.proposal, schema.decision, schema.campaign, schema.source, schema.worker_session)
    )
    m, t, link = schema.dataset_member.c, schema.dataset.c, schema.fc_link.c
    row = _one(database, name)
    with database.read() as connection:
        (held,) = load(connection, [Hit(row, None)])
        fingerprint = connection.scalars(
            select(k.fingerprint).join(schema.calculation, c.oracle_id == k.id).where(c.id == row)
        ).one()
        labels = connection.execute(
            select(o.kind, o.detail, o.value, o.attempt_id, o.accepted).where(o.calculation_id == row).order_by(o.id)
        ).mappings()
        accepted = [{n: v for n, v in label.items() if v is not None} for label in labels]
        attempts = connection.execute(
            select(a.number, a.kinds, a.state, a.failure, a.message, a.created, a.started, a.ended, a.core_seconds)
            .add_columns(a.settings, a.difference, w.host, r.name.label("imported_from"))
            .outerjoin(schema.worker_session, w.id == a.session_id)
            .outerjoin(schema.source, r.id == a.source_id)
            .where(a.calculation_id == row)
            .order_by(a.number)
        ).mappings()
        tried = [dict(x) for x in attempts]
        proposals = connection.execute(
            select(g.name.label("campaign"), d.number.label("decision"), p.ordinal, p.kinds, p.role, p.term)
            .add_columns(p.n1, p.n2, p.n3, d.reason)
            .join(schema.decision, d.id == p.decision_id)
            .join(schema.campaign, g.id == d.campaign_id)
            .where(p.calculation_id == row)
            .order_by(p.id)
        ).mappings()
        asked = [dict(x) for x in proposals]
        columns = connection.execute(
            select(link.observation_id.label("column"), link.step).where(link.calculation_id == row)
        ).mappings()
        parts = [dict(x) for x in columns]
        sets = connection.execute(
            select(t.name, m.part).join(schema.dataset, t.id == m.dataset_id).where(m.calculation_id == row)
        ).mappings()
        member = [dict(x) for x in sets]
    atoms = held.structure_atoms()
    return {
        "id": row,
        "calculation": held.calculation,
        "structure": held.structure,
        "formula": held.formula,
        "natoms": len(atoms),
        "cell": atoms.cell.tolist(),
        "pbc": atoms.pbc.tolist(),
        "oracle": fingerprint,
        "fingerprint": held.fingerprint,
        "labels": accepted,
        "attempts": tried,
        "proposals": asked,
        "force_constants": parts,
        "datasets": member,
    }


def _one(database: Database, name: str) -> int:
    c = schema.calculation.c
    query = select(c.id).limit(2)
    if name.isdigit() and len(name) < 16:
        query = query.where(c.id == int(name))
    elif name and set(name.lower()) <= set("0123456789abcdef"):
        start = name.lower()
        query = query.where(c.key >= start, c.key < start + "g")
    else:
        raise RecordError(f"{name!r} is no id and no beginning of a key; `farfield ls` shows both")
    with database.read() as connection:
        found = connection.scalars(query).all()
    if len(found) != 1:
        what = "no calculation" if not found else "more than one calculation"
        raise RecordError(f"{what} fits {name!r}; `farfield ls` shows ids and keys")
    return int(found[0])
