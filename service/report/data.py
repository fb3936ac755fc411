"""What a report is made from: one campaign as it stands in the record, as plain values.

Only `loading.load` fills these from the database; a notebook that drives the loop by hand may fill them itself. Every
figure and table is a function of `CampaignData`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.errors import RecordError
from farfield.oracles.noise import Noise
from farfield.oracles.packing import unpack
from farfield.service.cells import (
    NONDIAGONAL,
    Defect,
    DefectCell,
    DisplacedCells,
    Host,
    Size,
    displaced_cells,
)
from farfield.service.cells.description import Geometry, described_defect, described_host
from farfield.service.cells.host import Rows
from farfield.service.cells.ladder import even_cell
from farfield.service.estimates import Estimate
from farfield.service.surrogate import Basis, Surrogate

__all__ = ["CampaignData", "Event", "Label", "Round", "Snapshot", "Truth", "size_name"]

Array = NDArray[np.float64]


def size_name(size: Size) -> str:
    """(2, 2, 3) as 2×2×3."""
    return "×".join(str(n) for n in size)


@dataclass(frozen=True)
class Label:
    """One proposal with what the oracle answered: energy eV, forces (N, 3) eV/Å, virial (6,) eV; None where missing.

    `core_seconds` and `calls` are what this campaign was charged for it: every attempt that ran, failed ones too. A
    calculation that an earlier decision or campaign paid for has none. `withdrawn`: kept out of every fit.
    """

    decision: int
    ordinal: int
    atoms: Atoms
    kinds: tuple[str, ...]
    role: str
    term: str
    rung: Size
    meta: Mapping[str, Any]
    energy: float | None = None
    forces: Array | None = None
    virial: Array | None = None
    failure: str | None = None
    core_seconds: float = 0.0
    calls: int = 0
    withdrawn: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The part of the loop's stored state that a report shows: the surrogate of a round and its solution u^h.

    `geometry`: lattice constant, shape and sites of the host; `edge` of an enlarged target. `u` (N, 3) Å in the target;
    it and the surrogate are None before the first fit.
    """

    geometry: Geometry
    edge: int | None
    fit_fc: bool
    fit_v: bool
    u: Array | None
    surrogate: Surrogate | None

    @classmethod
    def from_bytes(cls, state: bytes) -> Snapshot:
        """From a decision's state (`campaign.state.State.to_bytes`). Raises RecordError for what cannot be read."""
        surrogate = None
        try:
            header, arrays = unpack(state)
            if header.get("basis") is not None and "coefficients" in arrays:
                surrogate = Surrogate(Basis.from_json(header["basis"]), arrays["coefficients"])
        except ValueError as fault:  # BasisError, of another version, is one
            raise RecordError(f"a decision's state cannot be read ({fault}); use the version that wrote it") from fault
        return cls(
            (header.get("lattice_constant"), _rows(header.get("shape")), _rows(header.get("sites"))),
            header.get("edge"),
            bool(header.get("fit_fc")),
            bool(header.get("fit_v")),
            arrays.get("u"),
            surrogate,
        )


def _rows(values: Any) -> Rows | None:
    return None if values is None else tuple((float(x), float(y), float(z)) for x, y, z in values)


@dataclass(frozen=True)
class Round:
    """A decision, what it bought, and the estimate it gave: the error of the surrogate in its own `state`."""

    number: int
    reason: str
    labels: tuple[Label, ...]
    state: bytes
    summary: Mapping[str, Any] = field(default_factory=dict)
    estimate: Estimate | None = None

    @cached_property
    def snapshot(self) -> Snapshot:
        """The surrogate that chose this decision, and its solution."""
        return Snapshot.from_bytes(self.state)

    @property
    def core_seconds(self) -> float:
        """Charged oracle core-seconds."""
        return sum(x.core_seconds for x in self.labels)

    @property
    def calls(self) -> int:
        """Charged oracle calls."""
        return sum(x.calls for x in self.labels)


@dataclass(frozen=True)
class Truth:
    """What `verify` found by relaxing the defect with the oracle in the target cell.

    `geometry` = ||D(u - u^h)|| in Å of the last surrogate; `formation_energy` of the oracle in eV. `u` (N, 3) Å is the
    oracle's displacement where it was kept, which gives the true error of every round. `other_basin`: it relaxed into
    another minimum than the surrogate's, so that the difference is no error.
    """

    geometry: float
    formation_energy: float
    u: Array | None = None
    other_basin: bool = False


@dataclass(frozen=True)
class Event:
    """A line of the campaign's diary."""

    time: str
    kind: str
    message: str


@dataclass(frozen=True)
class CampaignData:
    """One campaign. `config` and `fingerprint` are the stored JSON; `state` is the campaign's (created, running,
    interrupted, drained, converged, ended) and `ending` why it stands there, where that is known; `other_cost` are
    core-seconds and calls charged to no decision (verification of the end result)."""

    name: str
    config: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    rounds: tuple[Round, ...]
    state: str = "running"
    ending: str | None = None
    events: tuple[Event, ...] = ()
    truth: Truth | None = None
    other_cost: tuple[float, int] = (0.0, 0)

    @property
    def converged(self) -> bool:
        """Whether the loop ended because the tolerance was met."""
        return self.state == "converged"

    @property
    def ended(self) -> bool:
        """Whether the loop came to an end; a campaign that was drained or interrupted goes on when it is run again."""
        return self.state in ("converged", "ended")

    @property
    def tol_geo(self) -> float:
        """Geometry tolerance, Å."""
        return float(self.config["target"]["tol_geo"])

    @property
    def tol_energy(self) -> float:
        """Tolerance of the formation energy, eV."""
        return float(self.config["target"]["tol_energy"])

    @property
    def labels(self) -> tuple[Label, ...]:
        """All labels in the order (decision, ordinal)."""
        return tuple(x for r in self.rounds for x in r.labels)

    @property
    def estimated(self) -> tuple[tuple[Round, Estimate], ...]:
        """The rounds that gave an estimate, with it."""
        return tuple((r, r.estimate) for r in self.rounds if r.estimate is not None)

    @property
    def last(self) -> Estimate | None:
        """The last estimate."""
        found = self.estimated
        return found[-1][1] if found else None

    @cached_property
    def final(self) -> Round | None:
        """The last round that holds a surrogate: where a campaign has ended, the one whose error was estimated."""
        return next((r for r in reversed(self.rounds) if r.snapshot.surrogate is not None), None)

    @cached_property
    def host(self) -> Host:
        """The host as the last round has it."""
        known = [g for r in self.rounds if (g := r.snapshot.geometry)[0] is not None]
        return described_host(self.config["host"], known[-1] if known else (None, None, None))

    @cached_property
    def defect(self) -> Defect:
        """The defect."""
        return described_defect(self.config["defect"], self.host)

    @cached_property
    def target(self) -> DefectCell:
        """The target cell, as the last round has it."""
        grown = [r.snapshot.edge for r in self.rounds if r.snapshot.edge is not None]
        edge = grown[-1] if grown else int(self.config["target"]["size"])
        return DefectCell(self.host, self.defect, even_cell(self.host, edge))

    @cached_property
    def spent(self) -> dict[int, float]:
        """Decision number -> core-seconds charged up to and with it."""
        total = np.cumsum([r.core_seconds for r in self.rounds])
        return {r.number: float(t) for r, t in zip(self.rounds, total, strict=True)}

    @cached_property
    def noise(self) -> Noise | None:
        """The oracle's noise, None before it was measured."""
        found = [n for r in self.rounds if (n := r.summary.get("oracle_noise")) is not None]
        return Noise.from_json(found[-1]) if found else None

    def by_role(self, role: str) -> list[Label]:
        """Labels bought in a role, whatever of them was answered."""
        return [x for x in self.labels if x.role == role]

    @cached_property
    def force_constants(self) -> tuple[DisplacedCells, Array, float] | None:
        """The largest supercell with all its displaced cells answered: the cell, the oracle's
        C (n1, n2, n3, n_b, 3, n_b, 3) in eV/Å^2, and the displacement in Å; None where there is none."""
        labels = [x for x in self.by_role("force constants") if x.forces is not None]
        for size in sorted({x.rung for x in labels}, key=lambda s: (int(np.prod(s)), s), reverse=True):
            small = any(x.meta.get("cells") == NONDIAGONAL for x in labels if x.rung == size)
            cell = displaced_cells(self.host, size, nondiagonal=small)
            step = next(float(x.meta["step"]) for x in labels if x.rung == size)
            found = {(int(x.meta["displacement"]), int(x.meta["sign"])): x.forces for x in labels if x.rung == size}
            wanted = [[(k, s) for s in cell.signs(d)] for k, d in enumerate(cell.displacements)]
            if all(key in found for keys in wanted for key in keys):
                answers = [[np.asarray(found[key]) for key in keys] for keys in wanted]
                columns = [cell.column(d, step, a) for d, a in zip(cell.displacements, answers, strict=True)]
                return cell, cell.assemble(columns), step
        return None
