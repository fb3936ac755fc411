"""The framework's loss as weights of single configurations, for trainers that have no rows for Hessians.

The far-field weights w_E, w_F, w_V and w_FC of a campaign's newest decision multiply residuals: of energies (eV),
forces (eV/Å), virials per atom (eV) and force-constant columns (eV/Å^2); see theory.md section 2 and arXiv 2209.05366.
A trainer averages the squares: of energies per atom over configurations, of forces over all 3N components, of virials
per atom or stresses over nine components. With its own factors at 1 the two losses are proportional when, n
configurations having N atoms each and M in the mean,

    c_F = w_F^2     c_E = w_E^2 N^2 / (3 M)     c_virials = 3 w_V^2 / M     c_stress = c_virials (volume / N)^2

A column of force constants is a difference of forces over 2h, or over h where symmetry supplies the other side, so that
each of its cells has c_F = w_FC^2 / (2 h^2) in a pair and w_FC^2 / h^2 alone, at most 100 w_F^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from farfield.db import schema
from farfield.db.engine import Database
from farfield.db.export.links import Link
from farfield.db.export.origin import Origin
from farfield.db.query import Labelled
from farfield.errors import RecordError

__all__ = ["CAP", "Weighed", "Weights", "framework"]

CAP = 100.0
"""Largest weight of a displaced cell's forces, in those of an ordinary cell."""


@dataclass(frozen=True)
class Weighed:
    """Weights of one configuration; 0 for a label that is not there."""

    energy: float
    forces: float
    virials: float
    stress: float


@dataclass
class Weights:
    """The framework's weights for the rows of one export: by campaign, and the mean number of atoms."""

    campaigns: dict[str, dict[str, float]]
    mean_atoms: float
    capped: int = 0
    displaced: int = 0
    used: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, row: Labelled, link: Link | None) -> Weighed:
        """The weights of a row; `link` where it is a displaced cell. Raises RecordError outside any campaign."""
        if row.campaign is None:
            raise RecordError(
                f"calculation {row.calculation[:12]} is of no campaign, which has no framework weights; "
                "export without --weights, or select by campaign"
            )
        w = self.campaigns.get(row.campaign)
        if w is None:
            raise RecordError(f"campaign {row.campaign!r} has no loss weights yet; let it run to its first fit")
        self.used[row.campaign] = w
        atoms, known = row.structure_atoms(), row.labels
        n, m = len(atoms), self.mean_atoms
        forces = w.get("F", 1.0) ** 2
        energy = w.get("E", 1.0) ** 2 * n**2 / (3 * m)
        virials = 3 * w.get("V", 0.0) ** 2 / m
        if link is not None:
            self.displaced += 1
            wanted = w.get("FC", 0.0) ** 2 / ((2 if link.partner is not None else 1) * link.step**2)
            self.capped += wanted > CAP * forces
            forces, energy = min(wanted, CAP * forces), 0.0
        return Weighed(
            energy if known.energy is not None else 0.0,
            forces if known.forces is not None else 0.0,
            virials if known.virial is not None else 0.0,
            virials * (atoms.get_volume() / n) ** 2 if known.virial is not None else 0.0,
        )

    def said(self) -> dict[str, Any]:
        """What the manifest says of them."""
        return {
            "kind": "framework",
            "campaigns": self.used,
            "mean_atoms": self.mean_atoms,
            "displaced_cells": self.displaced,
            "capped_displaced_cells": self.capped,
            "cap": f"{CAP:g} times the force weight of an ordinary cell",
            "assumes": "the trainer's own energy, forces and stress (or virials) weights are 1, its loss the mean of "
            "squares: energies and virials per atom, forces by component",
        }


def framework(database: Database, origin: Origin) -> Weights:
    """The weights for the rows of `origin`. Raises RecordError where no campaign of the database has any."""
    g, d = schema.campaign.c, schema.decision.c
    found: dict[str, dict[str, float]] = {}
    with database.read() as connection:
        rows = connection.execute(
            select(g.name, d.weights).join(schema.decision, d.campaign_id == g.id).order_by(d.campaign_id, d.number)
        )
        for name, weights in rows:
            if weights:
                found[name] = dict(weights)
    count = atoms = 0
    for row in origin.rows():
        if row.calculation not in origin.left_out:
            count, atoms = count + 1, atoms + len(row.structure_atoms())
    return Weights(found, atoms / max(count, 1))
