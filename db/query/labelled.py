"""Calculations with their labels, one at a time: bare arrays, and `Atoms` on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from sqlalchemy import Connection, func, select

from farfield.db import schema
from farfield.db.blobs import blocks
from farfield.db.identity import structure_atoms
from farfield.db.labels import Array, Labels, labels
from farfield.db.query.pages import Hit
from farfield.db.query.stored_labels import StoredLabels
from farfield.db.rows import Prepared, among
from farfield.errors import RecordError

__all__ = ["Labelled", "load"]


@dataclass(frozen=True)
class Labelled:
    """One calculation with its accepted labels and the first proposal that asked for it (of those that the query
    fits). `role` and what follows are None for a calculation outside any decision. `part`: of a split
    dataset."""

    calculation: str
    structure: str
    fingerprint: str
    formula: str
    data: bytes = field(repr=False)
    labels: Labels = field(repr=False)
    campaign: str | None = None
    decision: int | None = None
    ordinal: int | None = None
    role: str | None = None
    term: str | None = None
    rung: tuple[int, int, int] | None = None
    id: int = 0
    part: str | None = None

    def structure_atoms(self) -> Atoms:
        """The bare structure, bit for bit."""
        return structure_atoms(self.data)

    def atoms(self) -> Atoms:
        """The structure with its labels on a single-point calculator: energy and free energy (eV), forces (eV/Å),
        stress = -virial / volume (eV/Å^3, Voigt)."""
        atoms, known = self.structure_atoms(), self.labels
        results: dict[str, Any] = {}
        if known.energy is not None:
            results.update(energy=known.energy, free_energy=known.energy)
        if known.forces is not None:
            results["forces"] = known.forces
        if known.virial is not None:
            results["stress"] = -known.virial / np.abs(np.linalg.det(atoms.cell.array))
        atoms.calc = StoredLabels(self.data, results)
        atoms.info.update(calculation=self.calculation, role=self.role)
        return atoms

    @property
    def forces(self) -> Array | None:
        """Forces (N, 3) eV/Å, raw: no constraint has masked them."""
        return self.labels.forces


def load(connection: Connection, hits: Sequence[Hit]) -> list[Labelled]:
    """The calculations of a page in its order, with bytes and labels. Raises RecordError where a part is missing."""
    ids = [h.id for h in hits]
    rows = {row[0]: row[1:] for block in blocks(ids) for row in _CELLS(connection, ids=list(block))}
    for i in ids:
        if i not in rows:
            raise RecordError(f"calculation {i} lacks its structure or oracle; run `farfield db check`")
    known = labels(connection, rows)
    asked = proposals(connection, hits)
    return [_labelled(i, rows[i], known.get(i, Labels()), asked.get(i)) for i in ids]


def _cells() -> Prepared:
    c, s, k, b = schema.calculation.c, schema.structure.c, schema.oracle.c, schema.blob.c
    joined = (
        select(c.id, c.key, s.key.label("structure"), k.fingerprint_hash, s.formula, b.data)
        .join(schema.structure, s.id == c.structure_id)
        .join(schema.oracle, k.id == c.oracle_id)
        .join(schema.blob, b.id == s.blob_id)
    )
    return Prepared(joined.where(among(c.id, "ids")))


_CELLS = _cells()


def proposals(connection: Connection, hits: Sequence[Hit]) -> dict[int, Any]:
    """By calculation, the proposal of its hit, else the first that named it, with its decision and campaign."""
    p, d, g = schema.proposal.c, schema.decision.c, schema.campaign.c
    first = {h.id: h.proposal for h in hits if h.proposal is not None}
    for block in blocks([h.id for h in hits if h.proposal is None]):
        query = select(p.calculation_id, func.min(p.id)).where(p.calculation_id.in_(block)).group_by(p.calculation_id)
        first.update((calculation, proposal) for calculation, proposal in connection.execute(query))
    out: dict[int, Any] = {}
    for block in blocks(sorted(first.values())):
        query = (
            select(p.calculation_id, p.ordinal, p.role, p.term, p.n1, p.n2, p.n3, p.meta)
            .add_columns(d.number, g.name.label("campaign"))
            .join(schema.decision, d.id == p.decision_id)
            .join(schema.campaign, g.id == d.campaign_id)
            .where(p.id.in_(block))
        )
        out.update((r.calculation_id, r) for r in connection.execute(query))
    return out


def _labelled(calculation: int, row: Any, known: Labels, asked: Any) -> Labelled:
    key, structure, fingerprint, hill, data = row
    named = (key, structure, fingerprint, hill, bytes(data), known)
    if asked is None:
        return Labelled(*named, id=calculation)
    rung = (asked.n1, asked.n2, asked.n3)
    return Labelled(*named, asked.campaign, asked.number, asked.ordinal, asked.role, asked.term, rung, id=calculation)
