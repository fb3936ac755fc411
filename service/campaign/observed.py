"""The labels of a campaign, sorted by what they are for.

Filled from (decision, answers) in the order of the record, never by arrival, so that a fit stacks its rows in the order
(decision, ordinal) on any number of workers (decisions A1). A withdrawn label leaves the lists (decisions C8, C12).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.service.campaign.decision import Answer, Decision, DerivedForceConstants, Proposal
from farfield.service.cells import NONDIAGONAL, DisplacedCells, Host, Size, displaced_cells
from farfield.service.proposals.cost import Timing

__all__ = ["DefectLabel", "ForceConstantLabel", "Label", "Observed", "StrainLabel", "as_read"]

Array = NDArray[np.float64]

FITTED = ("training", "verification", "strain", "force constants")
"""Roles whose labels go into fits, and may be withdrawn."""


@dataclass(frozen=True)
class DefectLabel:
    """E (eV), F (N, 3) and perhaps V (6,) and moments (N,) of a defect cell; `role` training or verification."""

    decision: int
    ordinal: int
    atoms: Atoms
    size: Size
    role: str
    energy: float
    forces: Array
    virial: Array | None
    calculation: str
    moments: Array | None = None


@dataclass(frozen=True)
class StrainLabel:
    """A strained host cell: its strain (3, 3), virial (6,) eV, internal forces (N, 3) eV/Å.

    `pair` numbers the +-e pair and `sign` its side; `shifted` cells, with shifts of their sublattices, have no partner.
    """

    decision: int
    ordinal: int
    atoms: Atoms
    strain: Array
    pair: int
    sign: int
    virial: Array
    forces: Array | None
    calculation: str
    shifted: bool = False


@dataclass(frozen=True)
class ForceConstantLabel:
    """The displaced cells of one supercell size: `forces[d][s]` (N, 3) for displacement d and sign s, step in Å.

    `nondiagonal`: displaced in small cells of any shape that hold the supercell's wave vectors between them.
    """

    decision: int
    size: Size
    step: float
    forces: list[list[Array]]
    ordinals: list[list[int]]
    calculations: list[str]
    nondiagonal: bool = False

    def cells(self, host: Host) -> DisplacedCells:
        """The displaced cells and how they assemble."""
        return displaced_cells(host, self.size, nondiagonal=self.nondiagonal)

    def constants(self, host: Host) -> Array:
        """C (n1, n2, n3, n_b, 3, n_b, 3) in eV/Å^2."""
        cell = self.cells(host)
        pairs = zip(cell.displacements, self.forces, strict=True)
        return cell.assemble([cell.column(d, self.step, f) for d, f in pairs])


Label = DefectLabel | StrainLabel | ForceConstantLabel


@dataclass
class Observed:
    """All labels so far. `keys` are the observation keys read, ``<calculation>/<kind>``.

    `energies`: points (a Å, E eV) of the equation of state; `scans`: points (amplitude, E) of the host's other free
    parameters by decision.
    `withdrawn`: calculations whose labels are kept out of every fit and estimate, those to come too.
    `equal`: cells equal to one of the oracle check, which tell its noise. `references`: E of one host cell (eV) at the
    mesh of each supercell, and V (6,) of the cell that was bought.
    `phases`: eV per atom of the reference phases, by species.
    `held`: calculations in doubt, whose labels wait in `aside` until they are confirmed.
    `timings`: what calculations took, by key, where all that was asked of them is there.
    """

    energies: list[tuple[float, float]] = field(default_factory=list)
    scans: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    checks: dict[str, tuple[Proposal, Answer]] = field(default_factory=dict)
    equal: list[tuple[Proposal, Answer]] = field(default_factory=list)
    references: dict[Size, tuple[float, Array | None]] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    defects: list[DefectLabel] = field(default_factory=list)
    strains: list[StrainLabel] = field(default_factory=list)
    constants: list[ForceConstantLabel] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    failures: list[tuple[Proposal, Answer]] = field(default_factory=list)
    withdrawn: set[str] = field(default_factory=set)
    held: dict[str, tuple[Proposal, Answer]] = field(default_factory=dict)
    aside: list[Label] = field(default_factory=list)
    timings: dict[str, Timing] = field(default_factory=dict)

    def add(self, decision: Decision, answers: Sequence[Answer]) -> None:
        """Take the answers of one decision, in ordinal order. Failed ones are listed in `failures`."""
        displaced: dict[Size, list[tuple[Proposal, Answer]]] = {}
        incomplete: set[Size] = set()
        by_ordinal = {a.ordinal: a for a in answers}
        for p in decision.proposals:
            a = by_ordinal[p.ordinal]
            got = {"E": a.energy is not None, "F": a.forces is not None, "V": a.virial is not None}
            if a.calculation not in self.withdrawn:
                self.keys |= {f"{a.calculation}/{k}" for k, there in got.items() if there}
                # an atom in a box costs what its vacuum costs, which tells nothing of crystals
                if p.role != "isolated atom" and a.core_seconds is not None and all(got[k] for k in p.kinds):
                    self.timings.setdefault(a.calculation, Timing(p.role, len(p.atoms), a.core_seconds))
            if any(not got[k] for k in p.kinds if k != "V") or (p.kinds == ("V",) and not got["V"]):
                self.failures.append((p, a))
                if p.role == "force constants":
                    incomplete.add(p.rung)  # all its displaced cells are needed
                continue
            if a.calculation in self.withdrawn and p.role in FITTED:
                if p.role == "force constants":
                    incomplete.add(p.rung)
                continue
            if p.role == "lattice constant" and a.energy is not None:
                point = float(p.meta["a"]), a.energy
                if "scan" in p.meta:
                    self.scans.setdefault(decision.number, []).append(point)
                else:
                    self.energies.append(point)
            elif p.role == "check":
                self.checks[str(p.meta["name"])] = (p, a)
            elif p.role == "noise":
                self.equal.append((p, a))
            elif p.role == "reference" and a.energy is not None:
                cells = int(p.meta.get("cells", p.rung[0] * p.rung[1] * p.rung[2]))
                self.references[p.rung] = (a.energy / cells, a.virial)
            elif p.role == "phase" and a.energy is not None:
                self.phases[str(p.meta["species"])] = a.energy / len(p.atoms)
            elif p.role == "strain" and a.virial is not None:
                strain = np.array(p.meta["strain"])
                label = StrainLabel(
                    decision.number,
                    p.ordinal,
                    p.atoms,
                    strain,
                    int(p.meta["pair"]),
                    int(p.meta["sign"]),
                    a.virial,
                    a.forces,
                    a.calculation,
                    "shifts" in p.meta,
                )
                self.strains.append(label)
            elif p.role == "force constants":
                displaced.setdefault(p.rung, []).append((p, a))
            elif p.role in ("training", "verification") and a.energy is not None and a.forces is not None:
                self.defects.append(
                    DefectLabel(
                        decision.number,
                        p.ordinal,
                        p.atoms,
                        p.rung,
                        p.role,
                        a.energy,
                        a.forces,
                        a.virial,
                        a.calculation,
                        a.moments,
                    )
                )
        for size, group in displaced.items():
            if size not in incomplete:
                self._add_constants(decision.number, size, group)

    def _add_constants(self, number: int, size: Size, group: list[tuple[Proposal, Answer]]) -> None:
        forces: dict[int, list[Array]] = {}
        ordinals: dict[int, list[int]] = {}
        for p, a in group:
            if a.forces is not None:
                forces.setdefault(int(p.meta["displacement"]), []).append(a.forces)
                ordinals.setdefault(int(p.meta["displacement"]), []).append(p.ordinal)
        step = float(group[0][0].meta["step"])
        self.constants.append(
            ForceConstantLabel(
                number,
                size,
                step,
                [forces[k] for k in sorted(forces)],
                [ordinals[k] for k in sorted(forces)],
                [a.calculation for _, a in group],
                group[0][0].meta.get("cells") == NONDIAGONAL,
            )
        )

    def without(self, calculations: Collection[str]) -> tuple[Observed, list[Label]]:
        """The same without the labels of `calculations`, those to come too, and the labels that left.

        A force-constant label leaves with any of its displaced cells; a strained cell leaves its pair incomplete.
        """
        out = self.withdrawn | set(calculations)
        gone: list[Label] = []
        gone += [d for d in self.defects if d.calculation in out]
        gone += [s for s in self.strains if s.calculation in out]
        gone += [c for c in self.constants if not out.isdisjoint(c.calculations)]
        left = replace(
            self,
            defects=[d for d in self.defects if d.calculation not in out],
            strains=[s for s in self.strains if s.calculation not in out],
            constants=[c for c in self.constants if out.isdisjoint(c.calculations)],
            keys={k for k in self.keys if k.rpartition("/")[0] not in out},
            withdrawn=out,
            aside=[x for x in self.aside if out.isdisjoint(_calculations(x))],
            timings={k: t for k, t in self.timings.items() if k not in out},
        )
        return left, gone

    def reorder(self) -> None:
        """Labels of an earlier decision that came late go to their place in the order of the record."""
        self._sort([*self.defects, *self.strains, *self.constants, *self.aside])

    def hold(self, doubted: Mapping[str, tuple[Proposal, Answer]]) -> None:
        """Put the labels of `doubted` calculations aside, with the proposal and answer of each."""
        self.held.update(doubted)
        self._sort([*self.defects, *self.strains, *self.constants, *self.aside])

    def release(self, calculation: str) -> None:
        """The label of a calculation that was in doubt is sound: back to its place in the order of the record."""
        self.held.pop(calculation, None)
        self._sort([*self.defects, *self.strains, *self.constants, *self.aside])

    def _sort(self, labels: Sequence[Label]) -> None:
        """New lists, in the order (decision, ordinal); labels of held calculations aside."""
        ordered = sorted(labels, key=lambda x: (x.decision, getattr(x, "ordinal", 0)))
        sound = [x for x in ordered if self.held.keys().isdisjoint(_calculations(x))]
        self.aside = [x for x in ordered if not self.held.keys().isdisjoint(_calculations(x))]
        self.defects = [x for x in sound if isinstance(x, DefectLabel)]
        self.strains = [x for x in sound if isinstance(x, StrainLabel)]
        self.constants = [x for x in sound if isinstance(x, ForceConstantLabel)]

    def strain_pairs(self) -> list[tuple[StrainLabel, StrainLabel]]:
        """The complete +-e pairs (plus, minus), in order; cells with shifts have none."""
        plus = {(s.decision, s.pair): s for s in self.strains if s.sign > 0 and not s.shifted}
        minus = {(s.decision, s.pair): s for s in self.strains if s.sign < 0 and not s.shifted}
        return [(plus[k], minus[k]) for k in plus if k in minus]

    def derived(self, host: Host, number: int) -> list[DerivedForceConstants]:
        """The FC observations that decision `number` completed, one per irreducible displacement."""
        out = []
        for label in self.constants:
            if label.decision != number:
                continue
            cell = label.cells(host)
            for d, forces, ordinals in zip(cell.displacements, label.forces, label.ordinals, strict=True):
                parts = [
                    (o, s * label.step, tuple(tuple(float(x) for x in row) for row in np.eye(3)))
                    for o, s in zip(ordinals, cell.signs(d), strict=True)
                ]
                if d.mirror is not None:
                    rotation = tuple(tuple(float(x) for x in row) for row in d.mirror.rotation)
                    parts.append((ordinals[0], -label.step, rotation))
                out.append(
                    DerivedForceConstants(
                        cell.undisplaced(d),
                        d.site,
                        d.direction,
                        label.step,
                        cell.column(d, label.step, forces),
                        tuple(parts),
                        number,
                    )
                )
        return out


def _calculations(label: Label) -> list[str]:
    return label.calculations if isinstance(label, ForceConstantLabel) else [label.calculation]


def as_read(answers: Sequence[Answer], inputs: Collection[str], withdrawn: Collection[str]) -> list[Answer]:
    """`answers` to a decision with the labels that the next one read, whose `inputs` name them.

    Withdrawn calculations, which are no inputs, are left as they are.
    """
    known = set(inputs)

    def read(a: Answer) -> Answer:
        if a.calculation in withdrawn:
            return a
        e, f, v = (f"{a.calculation}/{kind}" in known for kind in "EFV")
        late = any(value is not None and not k for value, k in ((a.energy, e), (a.forces, f), (a.virial, v)))
        return replace(
            a,
            energy=a.energy if e else None,
            forces=a.forces if f else None,
            virial=a.virial if v else None,
            core_seconds=None if late else a.core_seconds,
        )

    return [read(a) for a in answers]
