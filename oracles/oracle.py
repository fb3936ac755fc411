"""What an oracle is. A plug-in author reads this file and no other.

An oracle is an object with the attributes and the one method of `Oracle`, made from the campaign file's
``[oracle]`` parameters by a factory that is registered under the entry-point group ``farfield.oracles``::

    [project.entry-points."farfield.oracles"]
    mymethod = "mypackage:MyOracle"        # MyOracle(**parameters) -> Oracle

Raise `OracleError(message, failure=...)` with one of `FAILURES` when a call cannot be answered; anything else
that escapes counts as "crashed". A kind that the program cannot give for this cell goes to
`Observations.missing`; the other kinds are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from farfield.oracles.mesh import Mesh
from farfield.oracles.observation import Observations

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["FAILURES", "MeshRule", "Oracle", "SettableMesh"]

FAILURES: tuple[str, ...] = (
    "worker lost",
    "timed out",
    "out of memory",
    "crashed",
    "not converged",
    "bad answer",
    "not supported",
    "input error",
)
"""Failure classes; each has a budget of its own. "not supported" and "input error" are never retried."""

MeshRule = Literal["none", "fixed", "settable"]
"""How energies of different cells compare (decisions C2): "none", no mesh (a force field: any cell of the perfect
crystal is its reference); "fixed", an unknown mesh (the perfect supercell itself is bought as reference);
"settable", the oracle obeys ``atoms.info["mesh"]`` and has `SettableMesh.mesh_of`: the conventional cell with the
folded mesh is bought."""


@runtime_checkable
class Oracle(Protocol):
    """A reference method.

    Attributes
    ----------
    name: short name shown to people.
    supports: the kinds it can answer, a subset of {"E", "F", "V"}.
    mesh: see `MeshRule`.
    analytic: True when it has no numerical noise (a force field), so no noise calls are bought (C10).
    """

    name: str
    supports: frozenset[str]
    mesh: MeshRule
    analytic: bool

    def fingerprint(self) -> Mapping[str, Any]:
        """JSON-able identity: adapter and its physics version, program release, the *rule* of every setting that
        changes an answer (decisions A3). Parallel and scratch settings are not part of it."""
        ...

    def cost(self, natoms: int) -> float:
        """Expected core-seconds of one call on a cell of `natoms` atoms; a hint, only ratios matter."""
        ...

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """Answer `kinds` (names out of `supports`) for periodic `atoms` in Å. Units: eV, eV/Å (`observation`)."""
        ...


@runtime_checkable
class SettableMesh(Protocol):
    """What an oracle with ``mesh = "settable"`` has besides: it says which mesh a cell gets."""

    def mesh_of(self, atoms: Atoms) -> Mesh:
        """The Gamma-centred mesh that `evaluate` takes: ``atoms.info["mesh"]`` where set, else the oracle's rule."""
        ...
