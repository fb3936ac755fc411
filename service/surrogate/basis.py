"""The basis: which invariants of a site's neighbourhood the surrogate is linear in.

A linear ACE of up to three correlations (Drautz, Phys. Rev. B 99, 014104 (2019)). With the densities
A_znlm = sum_j R_n(r_ij) Y_lm(r_ij) over the neighbours of species z (`radial`), the functions of one centre are

* nu = 1: the pair set, n <= D1, per neighbour species;
* nu = 2: (2l+1)^(-1/2) sum_m A_{z1 n1 l m} A_{z2 n2 l m};
* nu = 3: sum_m W A A A with the real Wigner tensor (`coupling`), l1 + l2 + l3 even;

all those whose total degree sum(n + 1.5 l) is at most D_nu. Every centre species has coefficients of its own; one
one-body column per species (the count of its atoms) comes last.
"""

# ruff: noqa: E741  (l is the degree of a harmonic)
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from farfield.errors import BasisError
from farfield.service.surrogate.layout import Layout, build_layout

__all__ = ["CUTOFFS", "LEVELS", "Basis", "Shell"]

Array = NDArray[np.float64]

LEVELS: tuple[tuple[int, int, int], ...] = (
    (6, 6, 0),
    (7, 8, 7),
    (8, 10, 8),
    (9, 12, 9),
    (10, 14, 10),
    (12, 16, 11),
    (14, 18, 12),
)
"""The ladder of total degrees (D1, D2, D3), 18 to 351 columns for one species: each level contains the one before."""

CUTOFFS = {"fcc": 2.1, "bcc": 1.8, "diamond": 2.1, "rocksalt": 2.1, "b2": 1.8}
"""Default cutoff in nearest-neighbour distances: in the gap after the fourth shell (third in bcc, b2 and diamond).

At a given number of columns a shorter cutoff resolves better as long as it covers the oracle's range."""

FAMILY = "farfield linear ACE 1"
"""Names the radial functions and couplings in files; another number means another meaning of the coefficients."""

ANGULAR_COST = 1.5
"""One unit of l counts as this many units of n in the total degree."""

SMOOTHNESS = 2
"""Exponent of the prior scale."""

ORDER_COST = 2.0
"""Each further factor A multiplies the prior scale by exp of this. Measured with 2 to 5 cells of Cu, W and Si: with
exponent 2 this gives 5 to 25 % smaller errors of test forces than exponent 4 without it."""


class Shell(NamedTuple):
    """One radial shell of one neighbour species; `n` counts from 1. Sorted pair set first."""

    many: bool
    species: int
    l: int
    n: int

    @property
    def pair(self) -> bool:
        """True for the pair set."""
        return not self.many

    @property
    def degree(self) -> float:
        """n + 1.5 l."""
        return self.n + ANGULAR_COST * self.l


@dataclass(frozen=True)
class Basis:
    """A selection of invariants.

    Parameters
    ----------
    species: chemical symbols; their order fixes the columns.
    cutoff: Å.
    r0: nearest-neighbour distance, Å; the radial resolution is spent around it.
    degrees: total degrees (D1, D2, D3); 0 leaves an order out.

    Raises BasisError for unknown or repeated symbols, a cutoff that is not positive or not above `r0`, or no functions.
    """

    species: tuple[str, ...]
    cutoff: float
    r0: float
    degrees: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "species", tuple(self.species))
        object.__setattr__(self, "degrees", tuple(int(d) for d in self.degrees))
        names = list(self.species)
        unknown = [s for s in names if s not in atomic_numbers or s == "X"]
        if unknown or not self.species or len(set(self.species)) != len(self.species):
            raise BasisError(f"species {names} must be distinct chemical symbols; check the host and defect")
        if not (np.isfinite(self.cutoff) and np.isfinite(self.r0) and 0 < self.r0 < self.cutoff):
            raise BasisError(f"cutoff {self.cutoff} Å must be finite and above {self.r0} Å; set [surrogate] cutoff")
        if len(self.degrees) != 3 or min(self.degrees) < 0 or not self.functions:
            raise BasisError(f"degrees {list(self.degrees)} select no functions; give three, e.g. [8, 10, 8]")

    @classmethod
    def default(
        cls,
        species: Sequence[str],
        r0: float,
        level: int = 2,
        cutoff: float | None = None,
        *,
        lattice: str = "fcc",
    ) -> Basis:
        """The basis of rung `level` of `LEVELS` for nearest-neighbour distance `r0` (Å).

        `cutoff` (Å) defaults to that of the `lattice` in `CUTOFFS`. Raises BasisError for a level outside the ladder.
        """
        if not 0 <= level < len(LEVELS):
            raise BasisError(f"there is no basis level {level}; choose 0 to {len(LEVELS) - 1}")
        reach = CUTOFFS.get(lattice, CUTOFFS["fcc"]) * r0 if cutoff is None else cutoff
        return cls(tuple(species), float(reach), float(r0), LEVELS[level])

    @cached_property
    def functions(self) -> tuple[tuple[Shell, ...], ...]:
        """Shells of each invariant of one centre, pair set first, then nu = 2 and 3."""
        d1, d2, d3 = self.degrees
        zs = range(len(self.species))
        found: list[tuple[Shell, ...]] = [(Shell(False, z, 0, n),) for z in zs for n in range(1, d1 + 1)]
        top = max(d2 - 1, d3 - 2)
        shells = sorted(
            (
                s
                for z in zs
                for l in range(int(top / ANGULAR_COST) + 1)
                for n in range(1, top + 1)
                if (s := Shell(True, z, l, n)).degree <= top
            ),
            key=lambda s: (s.l, s.n, s.species),
        )
        for a, b in itertools.combinations_with_replacement(shells, 2):
            if a.l == b.l and a.degree + b.degree <= d2:
                found.append((a, b))
        small = [s for s in shells if s.degree <= d3 - 2]
        for a, b, c in itertools.combinations_with_replacement(small, 3):
            if c.l <= a.l + b.l and (a.l + b.l + c.l) % 2 == 0 and a.degree + b.degree + c.degree <= d3:
                found.append((a, b, c))
        return tuple(found)

    @property
    def size(self) -> int:
        """K, the number of columns, one-body columns included."""
        return len(self.species) * (len(self.functions) + 1)

    @cached_property
    def one_body(self) -> NDArray[np.bool_]:
        """(K,) mask of the one-body columns, which the fit leaves free."""
        mask = np.zeros(self.size, bool)
        mask[-len(self.species) :] = True
        return mask

    @cached_property
    def prior(self) -> Array:
        """(K,) smoothness scales gamma = exp(2 (nu - 1)) sum_t (n_t^2 + (1.5 l_t)^2) of each column; 1 for one-body."""
        scale = [
            np.exp(ORDER_COST * (len(f) - 1)) * sum(s.n**SMOOTHNESS + (ANGULAR_COST * s.l) ** SMOOTHNESS for s in f)
            for f in self.functions
        ]
        return np.concatenate([np.tile(np.array(scale, float), len(self.species)), np.ones(len(self.species))])

    @cached_property
    def layout(self) -> Layout:
        """Index arrays for the kernels."""
        return build_layout(self)

    def describe(self) -> str:
        """A few lines for people: columns, degrees, shells."""
        orders = [len(f) for f in self.functions]
        shells = sorted({s for f in self.functions for s in f if s.many})
        lines = [
            f"{self.size} columns for {' '.join(self.species)}: cutoff {self.cutoff:.3f} Å, r0 {self.r0:.3f} Å",
            f"degrees {self.degrees}: " + ", ".join(f"{orders.count(nu)} functions of order {nu}" for nu in (1, 2, 3)),
        ]
        for l in sorted({s.l for s in shells}):
            lines.append(f"l = {l}: n up to {max(s.n for s in shells if s.l == l)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """JSON-able definition; `from_json` gives an equal basis."""
        return {
            "family": FAMILY,
            "species": list(self.species),
            "cutoff": self.cutoff,
            "r0": self.r0,
            "degrees": list(self.degrees),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Basis:
        """The basis of `to_json`. Raises BasisError for another family or missing entries."""
        if data.get("family") != FAMILY:
            raise BasisError(f"basis family {data.get('family')!r} is unknown; the file is from another version")
        try:
            d1, d2, d3 = data["degrees"]
            return cls(tuple(data["species"]), float(data["cutoff"]), float(data["r0"]), (int(d1), int(d2), int(d3)))
        except (KeyError, TypeError, ValueError) as error:
            raise BasisError(f"the basis description is damaged ({error}); write the file again") from error
