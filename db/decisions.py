"""Decisions and their proposals: the stored rows that start a round, and are never recomputed (decisions A1).

Every function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ase import Atoms
from sqlalchemy import Connection, Row, func, insert, select

from farfield.db import schema
from farfield.db.blobs import load_blob, load_blobs, store_blob
from farfield.db.calculations import oracle_id, store_calculations
from farfield.db.clock import now
from farfield.db.identity import ordered_kinds, structure_atoms
from farfield.errors import RecordError
from farfield.oracles.packing import pack, unpack

__all__ = ["DecisionLike", "ProposalLike", "StoredDecision", "StoredProposal", "decision_row", "decisions", "store"]


class ProposalLike(Protocol):
    """One calculation to buy; see `service.campaign.decision.Proposal`."""

    @property
    def ordinal(self) -> int: ...
    @property
    def atoms(self) -> Atoms: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def role(self) -> str: ...
    @property
    def term(self) -> str: ...
    @property
    def rung(self) -> tuple[int, int, int]: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...


class DecisionLike(Protocol):
    """A decision on its way to the record; see `service.campaign.decision.Decision`."""

    @property
    def number(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def proposals(self) -> Sequence[ProposalLike]: ...
    @property
    def inputs(self) -> Sequence[str]: ...
    @property
    def seed(self) -> int: ...
    @property
    def cost_model(self) -> Mapping[str, Any]: ...
    @property
    def weights(self) -> Mapping[str, float]: ...
    @property
    def summary(self) -> Mapping[str, Any]: ...
    @property
    def state(self) -> bytes: ...


@dataclass(frozen=True)
class StoredProposal:
    """A proposal read back, its atoms bit for bit; `calculation` is its key."""

    ordinal: int
    atoms: Atoms
    kinds: tuple[str, ...]
    role: str
    term: str
    rung: tuple[int, int, int]
    meta: dict[str, Any]
    calculation: str


@dataclass(frozen=True)
class StoredDecision:
    """A decision read back; `created` in seconds since 1970 by the database's clock."""

    number: int
    reason: str
    proposals: tuple[StoredProposal, ...]
    inputs: tuple[str, ...]
    seed: int
    cost_model: dict[str, Any]
    weights: dict[str, float]
    summary: dict[str, Any]
    state: bytes
    created: float


def decision_row(connection: Connection, campaign: int, number: int) -> int:
    """Row id of a decision. Raises RecordError where there is none."""
    d = schema.decision.c
    found: int | None = connection.scalars(
        select(d.id).where(d.campaign_id == campaign, d.number == number)
    ).one_or_none()
    if found is None:
        raise RecordError(f"decision {number} of campaign {campaign} is not in the record; store it first")
    return found


def store(connection: Connection, campaign: int, decision: DecisionLike, fingerprint: str | None) -> list[str]:
    """Write a decision with its proposals and structures; the calculation keys in the order of the proposals.

    `fingerprint`: hash of the oracle that is to answer, by default the campaign's. Storing the same decision again is
    harmless. Raises RecordError for another decision under a number that is taken, or out of order.
    """
    c, d, p = schema.campaign.c, schema.decision.c, schema.proposal.c
    own = connection.scalars(select(c.oracle_id).where(c.id == campaign).with_for_update()).one_or_none()
    if own is None:
        raise RecordError(f"there is no campaign {campaign} in the record")
    oracle = own if fingerprint is None else oracle_id(connection, fingerprint)
    if sorted({q.ordinal for q in decision.proposals}) != sorted(q.ordinal for q in decision.proposals):
        raise RecordError(f"two proposals of decision {decision.number} have the same ordinal")
    calculations = store_calculations(connection, oracle, [q.atoms for q in decision.proposals])
    wanted = [
        (q.ordinal, row, ",".join(ordered_kinds(q.kinds)))
        for q, (row, _) in zip(decision.proposals, calculations, strict=True)
    ]
    keys = [key for _, key in calculations]
    old = connection.scalars(select(d.id).where(d.campaign_id == campaign, d.number == decision.number)).one_or_none()
    if old is not None:
        stored = connection.execute(select(p.ordinal, p.calculation_id, p.kinds).where(p.decision_id == old)).all()
        if sorted(map(tuple, stored)) != sorted(wanted):
            raise RecordError(
                f"decision {decision.number} is in the record with other proposals; does another process run this "
                "campaign? Resume it with `farfield run`"
            )
        return keys
    count = connection.scalars(select(func.count()).select_from(schema.decision).where(d.campaign_id == campaign)).one()
    if decision.number != count:
        raise RecordError(f"decision {decision.number} cannot follow {count} stored ones; store decisions in order")
    row = connection.scalars(
        insert(schema.decision)
        .returning(d.id)
        .values(
            campaign_id=campaign,
            number=decision.number,
            reason=decision.reason,
            seed=decision.seed,
            cost_model=dict(decision.cost_model),
            weights=dict(decision.weights),
            summary=dict(decision.summary),
            inputs_blob_id=store_blob(connection, pack({"inputs": list(decision.inputs)})),
            state_blob_id=store_blob(connection, decision.state),
            created=now(),
        )
    ).one()
    rows = [
        {
            "decision_id": row,
            "ordinal": ordinal,
            "calculation_id": calculation,
            "kinds": kinds,
            "role": q.role,
            "term": q.term,
            "n1": q.rung[0],
            "n2": q.rung[1],
            "n3": q.rung[2],
            "meta": dict(q.meta),
        }
        for q, (ordinal, calculation, kinds) in zip(decision.proposals, wanted, strict=True)
    ]
    if rows:
        connection.execute(insert(schema.proposal), rows)
    return keys


def decisions(
    connection: Connection, campaign: int, *, first: int = 0, last: int | None = None
) -> list[StoredDecision]:
    """The decisions of a campaign in order, from number `first` to `last`."""
    d = schema.decision.c
    query = select(schema.decision).where(d.campaign_id == campaign, d.number >= first).order_by(d.number)
    if last is not None:
        query = query.where(d.number <= last)
    return [_read(connection, row) for row in connection.execute(query).all()]


def _read(connection: Connection, row: Row[Any]) -> StoredDecision:
    inputs, _ = unpack(load_blob(connection, row.inputs_blob_id))
    return StoredDecision(
        row.number,
        row.reason,
        _proposals(connection, row.id),
        tuple(inputs["inputs"]),
        row.seed,
        row.cost_model,
        row.weights,
        row.summary,
        load_blob(connection, row.state_blob_id),
        row.created,
    )


def _proposals(connection: Connection, decision: int) -> tuple[StoredProposal, ...]:
    p, c, s = schema.proposal.c, schema.calculation.c, schema.structure.c
    rows = connection.execute(
        select(schema.proposal, c.key, s.blob_id)
        .join(schema.calculation, c.id == p.calculation_id)
        .join(schema.structure, s.id == c.structure_id)
        .where(p.decision_id == decision)
        .order_by(p.ordinal)
    ).all()
    data = load_blobs(connection, {r.blob_id for r in rows})
    return tuple(
        StoredProposal(
            r.ordinal,
            structure_atoms(data[r.blob_id]),
            tuple(r.kinds.split(",")),
            r.role,
            r.term,
            (r.n1, r.n2, r.n3),
            r.meta,
            r.key,
        )
        for r in rows
    )
