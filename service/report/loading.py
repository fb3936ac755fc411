"""From the record to `CampaignData`: the one place where the report knows the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from farfield.db.campaigns import KEPT_OUT
from farfield.db.progress import Share, StoredAnswer
from farfield.db.query import select_labelled
from farfield.db.record import Record
from farfield.errors import RecordError
from farfield.service.estimates import Estimate
from farfield.service.report.data import CampaignData, Event, Label, Round, Truth

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from farfield.db.campaigns import StoredEvent
    from farfield.db.decisions import StoredDecision
    from farfield.db.engine import Database

__all__ = ["load"]


def load(database: Database, campaign_name: str) -> CampaignData:
    """The campaign of that name as it stands. Raises RecordError for an unknown one."""
    record = Record(database)
    stored = record.campaign(campaign_name)
    if stored is None:
        known = ", ".join(record.campaigns()) or "none yet"
        raise RecordError(f"no campaign {campaign_name!r} in the database; it holds {known}")
    charged = record.charges(stored.id)
    estimates = {n: Estimate.from_json(e) for n, e in record.estimates(stored.id).items()}
    events = record.events(stored.id)
    withdrawn = {e.data["calculation"] for e in events if e.kind in KEPT_OUT}
    rounds = []
    for d in record.decisions(stored.id):
        answers = {a.ordinal: a for a in record.answers(stored.id, d.number)}
        labels = _labels(d, answers, charged, withdrawn)
        rounds.append(Round(d.number, d.reason, labels, d.state, d.summary, estimates.get(d.number)))
    other = charged.get(None, Share())
    killed = stored.state == "running" and stored.holder is None
    data = CampaignData(
        stored.name,
        stored.config,
        stored.fingerprint,
        tuple(rounds),
        "interrupted" if killed else stored.state,
        stored.ending,
        tuple(Event(_time(e.time), e.kind, e.message) for e in events),
        _truth(events, rounds[max(estimates)].estimate if estimates else None),
        (other.core_seconds, other.calls),
    )
    return data if data.truth is None else _with_displacement(database, data, data.truth, stored.fingerprint_hash)


def _labels(
    d: StoredDecision,
    answers: dict[int, StoredAnswer],
    charged: dict[tuple[int, int] | None, Share],
    withdrawn: Collection[str],
) -> tuple[Label, ...]:
    out = []
    for p in d.proposals:
        a = answers[p.ordinal]
        share = charged.get((d.number, p.ordinal), Share())
        out.append(
            Label(
                d.number,
                p.ordinal,
                p.atoms,
                p.kinds,
                p.role,
                p.term,
                p.rung,
                p.meta,
                a.energy,
                a.forces,
                a.virial,
                a.failure,
                share.core_seconds,
                share.calls,
                p.calculation in withdrawn,
            )
        )
    return tuple(out)


def _truth(events: Sequence[StoredEvent], last: Estimate | None) -> Truth | None:
    """What the last `verify` noted in the diary, unless the campaign went on to another estimate since."""
    found = next((e.data for e in reversed(events) if {"geometry_error", "formation_energy"} <= e.data.keys()), None)
    if found is None or last is None or abs(found.get("eta_geo", last.eta_geo) - last.eta_geo) > 1e-9:
        return None
    return Truth(float(found["geometry_error"]), float(found["formation_energy"]), None, bool(found.get("other_basin")))


def _with_displacement(database: Database, data: CampaignData, truth: Truth, fingerprint: str) -> CampaignData:
    """Adds the oracle's own displacement: that of the target-cell calculation with the smallest forces.

    It is left out unless its distance from the last solution is the geometry error that `verify` noted (2 %): then it
    is that relaxation's end, in the same symmetry image, and gives the true error of every round.
    """
    target, final = data.target, data.final
    if final is None or final.snapshot.u is None or final.snapshot.u.shape != (target.natoms, 3):
        return data
    best, smallest = None, np.inf
    for found in select_labelled(database, natoms=target.natoms, kind="F", fingerprint=fingerprint):
        atoms = found.structure_atoms()
        if found.forces is None or found.role is not None or atoms.get_chemical_symbols() != target.symbols:
            continue
        size = float(np.abs(found.forces).max())
        if size < smallest and np.allclose(atoms.cell.array, target.cell, atol=1e-6):
            best, smallest = atoms.positions - target.x0, size
    if best is None or abs(target.norm(best - final.snapshot.u) - truth.geometry) > 0.02 * truth.geometry:
        return data
    return replace(data, truth=replace(truth, u=best))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
