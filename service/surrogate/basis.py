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
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from farfield.errors import BasisError
from farfield.service.surrogate.kernels.layout import Layout, build_layout

__all__ = ["CORE", "CUTOFFS", "LEVELS", "Basis", "Shell", "bond_lengths"]

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

CUTOFFS = {"fcc": 2.1, "bcc": 1.8, "diamond": 2.1, "zincblende": 2.1, "rocksalt": 2.1, "b2": 1.8}
"""Default cutoff in nearest-neighbour distances: after the fourth shell, but the third in bcc, b2, diamond, zincblende.

At a given number of columns a shorter cutoff resolves better as long as it covers the oracle's range."""

CORE = 0.8
"""The core repels below this share of r0. Measured on Cu, W and Si: up to 0.8 it leaves the errors of test forces as
they are."""

FAMILY = "farfield linear ACE 2"
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
    r0: nearest-neighbour distance, Å: one number, or (S, S) symmetric for each pair of species; the radial resolution
        is spent around it.
    degrees: total degrees (D1, D2, D3); 0 leaves an order out.
    core: the fixed repulsion (`core`) acts below this share of r0; 0 leaves it out.

    Raises BasisError for unknown or repeated symbols, a cutoff that is not positive or not above `r0`, or no functions.
    """

    species: tuple[str, ...]
    cutoff: float
    r0: float | tuple[tuple[float, ...], ...]
    degrees: tuple[int, int, int]
    core: float = CORE

    def __post_init__(self) -> None:
        object.__setattr__(self, "species", tuple(self.species))
        object.__setattr__(self, "degrees", tuple(int(d) for d in self.degrees))
        names = list(self.species)
        unknown = [s for s in names if s not in atomic_numbers or s == "X"]
        if unknown or not self.species or len(set(self.species)) != len(self.species):
            raise BasisError(f"species {names} must be distinct chemical symbols; check the host and defect")
        given = np.asarray(self.r0, float)
        if not given.ndim:
            object.__setattr__(self, "r0", float(given))
        else:
            object.__setattr__(self, "r0", tuple(tuple(float(x) for x in row) for row in given))
        if given.ndim and not (given.shape == (len(names),) * 2 and np.array_equal(given, given.T, equal_nan=True)):
            raise BasisError(f"r0 {self.r0} is no symmetric table for {len(names)} species; give one number instead")
        if not (np.isfinite(self.cutoff) and 0 < given.min() <= given.max() < self.cutoff):
            raise BasisError(
                f"cutoff {self.cutoff} Å must be finite and above {given.max():.4g} Å; set [surrogate] cutoff"
            )
        if not 0 <= self.core < 1:
            raise BasisError(f"core {self.core} must be a share of r0 below 1; leave it at {CORE}")
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
        bond: tuple[str, str] | None = None,
    ) -> Basis:
        """The basis of rung `level` of `LEVELS` for nearest-neighbour distance `r0` (Å).

        `cutoff` (Å) defaults to that of the `lattice` in `CUTOFFS`. `bond` names the species at distance `r0`: each
        other pair then gets a distance of its own (`bond_lengths`). Raises BasisError for a level outside the ladder.
        """
        if not 0 <= level < len(LEVELS):
            raise BasisError(f"there is no basis level {level}; choose 0 to {len(LEVELS) - 1}")
        reach = CUTOFFS.get(lattice, CUTOFFS["fcc"]) * r0 if cutoff is None else cutoff
        table = float(r0) if bond is None else bond_lengths(species, bond, r0)
        return cls(tuple(species), float(reach), table, LEVELS[level])

    @cached_property
    def distances(self) -> Array:
        """(S, S) r0 of each pair of species, Å."""
        return np.broadcast_to(np.asarray(self.r0, float), (len(self.species),) * 2)

    @property
    def nearest(self) -> float:
        """The smallest r0, Å."""
        return float(self.distances.min())

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
        pairs = itertools.combinations_with_replacement(enumerate(self.species), 2)
        lines = [
            f"{self.size} columns for {' '.join(self.species)}: cutoff {self.cutoff:.3f} Å",
            f"core below {self.core:g} r0, r0 "
            + ", ".join(f"{a}-{b} {self.distances[i, j]:.3f} Å" for (i, a), (j, b) in pairs),
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
            "r0": self.r0 if isinstance(self.r0, float) else [list(row) for row in self.r0],
            "degrees": list(self.degrees),
            "core": self.core,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Basis:
        """The basis of `to_json`. Raises BasisError for another family or missing entries."""
        if data.get("family") != FAMILY:
            raise BasisError(f"basis family {data.get('family')!r} is unknown; the file is from another version")
        try:
            d1, d2, d3 = data["degrees"]
            r0 = data["r0"]
            table = tuple(tuple(float(x) for x in row) for row in r0) if isinstance(r0, list) else float(r0)
            degrees = int(d1), int(d2), int(d3)
            return cls(tuple(data["species"]), float(data["cutoff"]), table, degrees, float(data["core"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BasisError(f"the basis description is damaged ({error}); write the file again") from error


def bond_lengths(species: Sequence[str], bond: tuple[str, str], length: float) -> tuple[tuple[float, ...], ...]:
    """(S, S) typical shortest distances in Å of atoms of `species`, where those of `bond` are at `length`.

    Sums of covalent radii (Cordero et al., Dalton Trans. 2832 (2008)) in proportion: an antisite brings like atoms of
    a compound, and an impurity its own bonds, nearer than the host's lattice sites are.
    """
    radius = np.array([covalent_radii[atomic_numbers[s]] for s in species])
    unit = length / sum(covalent_radii[atomic_numbers[s]] for s in bond)
    return tuple(tuple(float(x) for x in row) for row in unit * np.add.outer(radius, radius))
