"""What passes between the pure loop and the runner: decisions, proposals, answers, stops (decisions A1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.oracles.mesh import Mesh
from farfield.oracles.oracle import MeshRule
from farfield.service.cells import Size

__all__ = ["Answer", "Decision", "DerivedForceConstants", "Note", "OracleInfo", "Proposal", "Stop"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OracleInfo:
    """What the loop must know of the oracle; see `oracles.oracle.Oracle`."""

    name: str
    mesh: MeshRule = "none"
    analytic: bool = True
    supports: frozenset[str] = frozenset({"E", "F", "V"})
    mesh_of: Callable[[Atoms], Mesh] | None = None


@dataclass(frozen=True)
class Proposal:
    """One calculation to buy: a cell, the kinds E, F, V asked of it, and why.

    `role`: lattice constant, check, noise, reference, strain, force constants, training, verification or confirmation
    (of a label in doubt). `term`: the term of the estimate that asks for it. `rung`: the supercell (n1, n2, n3).
    `meta`:
    JSON-able facts the loop needs again. Positions are rounded to 1e-8 Å, so that an identity does not hang on the last
    bits.
    """

    ordinal: int
    atoms: Atoms
    kinds: tuple[str, ...]
    role: str
    term: str
    rung: Size
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The stored row that starts a round.

    `inputs`: sorted keys ``<calculation>/<kind>`` of the observations it read. `summary`: JSON scalars for people.
    `state`: the loop's whole state as bytes, so that a resumed loop never recomputes it.
    """

    number: int
    reason: str
    proposals: tuple[Proposal, ...]
    inputs: tuple[str, ...]
    seed: int
    cost_model: dict[str, Any]
    weights: dict[str, float]
    summary: dict[str, Any]
    state: bytes


@dataclass(frozen=True)
class Answer:
    """The accepted labels for one proposal: energy eV, forces (N, 3) eV/Å, virial (6,) eV; None where not there.

    `moments` (N,) in Bohr magnetons, where the oracle gives them. `core_seconds`: what the attempts that brought
    all the kinds asked for took; None where a kind is missing or no time is known.

    `pending`: it may still come. `dropped`: it was taken back before it began, for it no longer paid.
    `calculation` is its key in the record; `failure` the failure class when its budget is spent, and `message` what the
    last failed call said.
    """

    ordinal: int
    calculation: str
    energy: float | None = None
    forces: Array | None = None
    virial: Array | None = None
    failure: str | None = None
    message: str | None = None
    moments: Array | None = None
    core_seconds: float | None = None
    pending: bool = False
    dropped: bool = False


@dataclass(frozen=True)
class DerivedForceConstants:
    """An FC observation for the record (decisions A2): one column of the undisplaced cell `atoms`.

    `column` (N, 3) in eV/Å^2 for `site` moved along unit `direction` by `step` Å; `parts` lists (proposal ordinal,
    signed step, rotation (3, 3) that maps it onto this column's sign, the identity where it was bought) of `decision`.
    """

    atoms: Atoms
    site: int
    direction: tuple[float, float, float]
    step: float
    column: Array
    parts: tuple[tuple[int, float, tuple[tuple[float, ...], ...]], ...]
    decision: int


@dataclass(frozen=True)
class Note:
    """A line for the diary about one calculation: `kind` suspect, confirmed, withdrawn or another electronic state."""

    kind: str
    message: str
    calculation: str


@dataclass(frozen=True)
class Stop:
    """The end of the loop and why. Exit code 0: tolerance met; 1: it cannot go on; 3: ended without the tolerance."""

    reason: str
    converged: bool
    exit_code: int
