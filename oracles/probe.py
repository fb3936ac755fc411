"""What the laws of the contract work with: the oracle and cell under test, the tolerances, and what is found.

A law judges one thing. What an earlier one has found is allowed for: the spread between equal calls widens the later
bounds, and an energy per atom is taken times the number of atoms, so that a fault shows where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleError
from farfield.oracles import gate
from farfield.oracles.observation import Observations
from farfield.oracles.oracle import Oracle

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["SAFETY", "Finding", "NotJudgedError", "Probe", "Tolerances", "unit"]

Array = NDArray[np.float64]
SAFETY = 4.0
"""A bound allows for this many times the spread of three equal calls."""


@dataclass(frozen=True)
class Tolerances:
    """Largest differences: `energy` and `virial` in eV per atom, `force` in eV/Å, `force_constant` in eV/Å^2; `noise`:
    times those for the standard deviations between translated and permuted cells."""

    energy: float = 1e-6
    force: float = 1e-4
    virial: float = 1e-4
    force_constant: float = 1e-2
    noise: float = 1.0

    @classmethod
    def of(cls, oracle: Oracle) -> Tolerances:
        """The defaults: tight for an analytic oracle, wider by grids and self-consistency for any other."""
        return cls() if oracle.analytic else cls(energy=1e-3, force=2e-2, virial=5e-2, force_constant=0.5)


@dataclass(frozen=True)
class Finding:
    """What a law found; `passed` None: a measurement without a bound."""

    passed: bool | None
    detail: str
    figure: float | None = None
    bound: float | None = None
    unit: str = ""


class NotJudgedError(Exception):
    """There is nothing to judge; the message says why."""


@dataclass
class Probe:
    """The oracle and the cell under test, with what has been found so far.

    `spread`: largest difference between equal calls, by kind, as answered. `per_atom`: whether its energies are of one
    atom.
    """

    oracle: Oracle
    atoms: Atoms
    tolerances: Tolerances
    spread: dict[str, float] = field(default_factory=dict)
    per_atom: bool = False

    @cached_property
    def base(self) -> Observations:
        """The answer for the cell as it is."""
        return self.ask(self.atoms)

    def ask(self, atoms: Atoms) -> Observations:
        """The gated answer, of all kinds the oracle supports. Raises OracleError."""
        return self.call(atoms.copy(), self.kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that the oracle supports, in order."""
        return tuple(k for k in ("E", "F", "V") if k in self.oracle.supports)

    def call(self, atoms: Atoms, kinds: tuple[str, ...]) -> Observations:
        """The gated answer to `kinds`. Raises OracleError, "crashed" for whatever else escapes the oracle."""
        try:
            observations = self.oracle.evaluate(atoms, kinds)
        except OracleError:
            raise
        except Exception as error:  # an author's oracle may raise anything
            raise OracleError(f"{type(error).__name__}: {error}", failure="crashed") from error
        if not isinstance(observations, Observations):
            what = f"the oracle answered a {type(observations).__name__}, not Observations"
            raise OracleError(what, failure="bad answer")
        return gate.demand(atoms, kinds, observations)

    def told(self, kind: str) -> Any:
        """The answer for the cell as it is, one kind of it. Raises NotJudgedError where it was left out."""
        return self.value(self.base, kind)

    def energy(self, atoms: Atoms) -> float:
        """Total energy, eV."""
        e = float(self.value(self.ask(atoms), "E"))
        return e * len(atoms) if self.per_atom else e

    def forces(self, atoms: Atoms) -> Array:
        """Forces (N, 3), eV/Å."""
        return np.asarray(self.value(self.ask(atoms), "F"), float)

    def moved(self, step: Array) -> Atoms:
        """The cell with `step` (N, 3) or (3,) added, Å."""
        atoms: Atoms = self.atoms.copy()
        atoms.positions += step
        return atoms

    def allowed(self, kind: str) -> float:
        """Largest difference of `kind` between cells that are physically equal, eV or eV/Å."""
        n, t = len(self.atoms), self.tolerances
        bound = {"E": t.energy * n, "F": t.force, "V": t.virial * n}[kind]
        return bound + SAFETY * self.noise(kind)

    def noise(self, kind: str) -> float:
        """Spread of `kind` between equal calls, with energies as totals."""
        times = len(self.atoms) if kind == "E" and self.per_atom else 1
        return times * self.spread.get(kind, 0.0)

    def agree(self, a: Observations, b: Observations, good: str, kinds: str = "EFV") -> Finding:
        """Whether two answers agree; the figure is the largest difference over its bound."""
        worst, said = 0.0, good
        for kind in kinds:
            if kind in a.values and kind in b.values:
                off = float(np.abs(np.asarray(a.values[kind]) - np.asarray(b.values[kind])).max())
                off *= len(self.atoms) if kind == "E" and self.per_atom else 1
                share = off / self.allowed(kind)
                if share > 1 and share > worst:
                    said = f"{kind} differs by {off:.3g}, more than {self.allowed(kind):.3g} {unit(kind)}"
                worst = max(worst, share)
        return Finding(worst <= 1, said, worst, 1.0, "x bound")

    @staticmethod
    def value(answer: Observations, kind: str) -> Any:
        """One kind of an answer. Raises NotJudgedError where it was left out."""
        if kind not in answer.values:
            raise NotJudgedError(f"the oracle left out {kind}: {answer.missing.get(kind, 'no reason given')}")
        return answer.values[kind]


def unit(kind: str) -> str:
    """The unit of a kind's numbers."""
    return "eV/Å" if kind == "F" else "eV"
