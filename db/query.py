"""Select labelled structures: arrays first, `Atoms` on demand, streamed in short transactions.

Narrow for now: filters are equalities and ranges on a fixed set of fields, joined by AND.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from sqlalchemy import Connection, Select, func, select

from farfield.db import schema
from farfield.db.blobs import blocks, load_blobs
from farfield.db.campaigns import kept_out
from farfield.db.engine import Database
from farfield.db.identity import structure_atoms
from farfield.db.labels import Array, Labels, labels
from farfield.errors import RecordError
from farfield.oracles.observation import KINDS

__all__ = ["Labelled", "Selection", "select_labelled"]

PAGE = 100
"""Structures per read transaction; a long one would hold back checkpoints."""


@dataclass(frozen=True)
class Selection:
    """What to select; None means any.

    `campaign`: its name; labels that its decisions asked for, whoever paid. `kind`: E, F or V must be there. `natoms`:
    a number or an inclusive (least, most). `role`: of the first proposal. `fingerprint`: the oracle's hash, or its
    beginning. `doubted`: also labels that a campaign withdrew, or that wait for their confirmation (decisions A10).
    """

    campaign: str | None = None
    kind: str | None = None
    natoms: int | tuple[int, int] | None = None
    role: str | None = None
    fingerprint: str | None = None
    doubted: bool = False


@dataclass(frozen=True)
class Labelled:
    """One calculation with its accepted labels and the first proposal that asked for it (within the campaign, where
    one is selected). `role` and what follows are None for a calculation outside any decision."""

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
            results["stress"] = -known.virial / atoms.get_volume()
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info.update(calculation=self.calculation, role=self.role)
        return atoms

    @property
    def forces(self) -> Array | None:
        """Forces (N, 3) eV/Å, raw: no constraint has masked them."""
        return self.labels.forces


def select_labelled(database: Database, selection: Selection | None = None, **filters: Any) -> Iterator[Labelled]:
    """Labelled structures of a `Selection` (or of its fields as keywords), in the order they were first proposed.

    Raises RecordError for an unknown field, campaign or kind.
    """
    try:
        wanted = selection or Selection(**filters)
    except TypeError as fault:
        known = ", ".join(Selection.__dataclass_fields__)
        raise RecordError(f"cannot select by {', '.join(filters)}; the fields are {known}") from fault
    if wanted.kind is not None and (wanted.kind not in KINDS or KINDS[wanted.kind].derived):
        raise RecordError(f"cannot select labels of kind {wanted.kind!r}; use E, F or V")
    return _pages(database, wanted)


def _pages(database: Database, wanted: Selection) -> Iterator[Labelled]:
    with database.read() as connection:
        campaign = None if wanted.campaign is None else _campaign(connection, wanted.campaign)
        rows = connection.execute(_query(wanted, campaign)).all()  # narrow: no blob among them
        doubtful = set() if wanted.doubted else kept_out(connection, wanted.campaign)
    rows = [r for r in rows if r.key not in doubtful]
    for page in blocks(rows, PAGE):
        with database.read() as connection:
            known = labels(connection, [r.id for r in page])
            data = load_blobs(connection, {r.blob_id for r in page})
        for r in page:
            yield _labelled(r, data[r.blob_id], known[r.id])


def _query(wanted: Selection, campaign: int | None) -> Select[Any]:
    """Calculations with labels and their first proposal, in the order of the proposals."""
    c, s, k = schema.calculation.c, schema.structure.c, schema.oracle.c
    o, p, d = schema.observation.c, schema.proposal.c, schema.decision.c
    asked = select(p.calculation_id, func.min(p.id).label("id")).group_by(p.calculation_id)
    if campaign is not None:
        asked = asked.join(schema.decision, d.id == p.decision_id).where(d.campaign_id == campaign)
    first = asked.subquery("first")
    found = select(o.id).where(o.calculation_id == c.id, o.detail == "")
    if wanted.kind is not None:
        found = found.where(o.kind == wanted.kind)
    query = (
        select(c.id, c.key, s.key.label("structure"), s.formula, s.blob_id, k.fingerprint_hash)
        .add_columns(p.ordinal, p.role, p.term, p.n1, p.n2, p.n3, d.number, schema.campaign.c.name.label("campaign"))
        .select_from(schema.calculation)
        .join(schema.structure, s.id == c.structure_id)
        .join(schema.oracle, k.id == c.oracle_id)
        .join(first, first.c.calculation_id == c.id, isouter=campaign is None)
        .outerjoin(schema.proposal, p.id == first.c.id)
        .outerjoin(schema.decision, d.id == p.decision_id)
        .outerjoin(schema.campaign, schema.campaign.c.id == d.campaign_id)
        .where(found.exists())
        .order_by(p.id.is_(None), p.id, c.id)  # calculations outside any decision come last
    )
    if isinstance(wanted.natoms, int):
        query = query.where(s.natoms == wanted.natoms)
    elif wanted.natoms is not None:
        query = query.where(s.natoms.between(*wanted.natoms))
    if wanted.fingerprint is not None:
        query = query.where(k.fingerprint_hash.startswith(wanted.fingerprint, autoescape=True))
    return query if wanted.role is None else query.where(p.role == wanted.role)


def _labelled(row: Any, data: bytes, known: Labels) -> Labelled:
    return Labelled(
        row.key,
        row.structure,
        row.fingerprint_hash,
        row.formula,
        data,
        known,
        row.campaign,
        row.number,
        row.ordinal,
        row.role,
        row.term,
        None if row.n1 is None else (row.n1, row.n2, row.n3),
    )


def _campaign(connection: Connection, name: str) -> int:
    c = schema.campaign.c
    found: int | None = connection.scalars(select(c.id).where(c.name == name)).one_or_none()
    if found is None:
        raise RecordError(f"there is no campaign {name!r} in this database; see `farfield status`")
    return found
