"""The host: a perfect crystal given by its conventional cell.

Sites of a supercell (n1, n2, n3) are ordered [x, y, z, b]: the cell index varies slowest, the basis site fastest, so
that an array over sites reshapes to (n1, n2, n3, n_b, ...) without a copy, which is what the Fourier code needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii, reference_states
from numpy.typing import NDArray

from farfield.errors import CrystalError

__all__ = ["LATTICES", "Host", "Prototype"]

Array = NDArray[np.float64]

_FCC = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))


@dataclass(frozen=True)
class Prototype:
    """A cubic lattice type: fractional basis, which species sits where, and the stencil of the D norm.

    `stencil` is the bond cut-off over a: shells 1+2, but shell 1 for fcc (theory.md section 1: the bonds span
    space, connect the lattice and link every pair of sublattices). `nearest` is r_nn / a.
    """

    basis: tuple[tuple[float, float, float], ...]
    species: tuple[int, ...]
    stencil: float
    nearest: float


_DIAMOND = _FCC + tuple((x + 0.25, y + 0.25, z + 0.25) for x, y, z in _FCC)

LATTICES: dict[str, Prototype] = {
    "fcc": Prototype(_FCC, (0, 0, 0, 0), 0.75, 0.5**0.5),
    "bcc": Prototype(((0, 0, 0), (0.5, 0.5, 0.5)), (0, 0), 1.05, 0.75**0.5),
    "diamond": Prototype(_DIAMOND, (0,) * 8, 0.75, 3**0.5 / 4),
    "zincblende": Prototype(_DIAMOND, (0,) * 4 + (1,) * 4, 0.75, 3**0.5 / 4),
    "rocksalt": Prototype(
        (*_FCC, (0.5, 0.5, 0.5), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)), (0,) * 4 + (1,) * 4, 0.75, 0.5
    ),
    "b2": Prototype(((0, 0, 0), (0.5, 0.5, 0.5)), (0, 1), 1.05, 0.75**0.5),
}
"""Lattice types known by name. All are cubic; other hosts come from a file in a later version."""


@dataclass(frozen=True)
class Host:
    """A perfect crystal: `symbols` (n_b,), fractional `basis` (n_b, 3), `cell` (3, 3) rows in Å, `stencil` in Å."""

    lattice: str
    symbols: tuple[str, ...]
    a: float

    @classmethod
    def named(cls, lattice: str, species: tuple[str, ...] | list[str], a: float | None = None) -> Host:
        """A host of a named lattice; `a` in Å, or None for a first guess from tables.

        Raises CrystalError for an unknown lattice or element and for a wrong number of species.
        """
        if lattice not in LATTICES:
            raise CrystalError(
                f"unknown lattice {lattice!r}; use one of {', '.join(LATTICES)} (hosts from files come later)"
            )
        proto = LATTICES[lattice]
        for s in species:
            if s not in atomic_numbers or atomic_numbers[s] == 0:
                raise CrystalError(f"unknown element {s!r} in host species; use a symbol such as Cu")
        need = max(proto.species) + 1
        if len(species) != need or len(set(species)) != need:
            raise CrystalError(f"{lattice} takes {need} different species, not {list(species)}")
        symbols = tuple(species[k] for k in proto.species)
        if a is None:
            a = guess_lattice_constant(lattice, list(species))
        if not (np.isfinite(a) and a > 0):
            raise CrystalError(f"lattice constant {a} Å is not a positive number")
        return cls(lattice, symbols, float(a))

    def with_constant(self, a: float) -> Host:
        """The same crystal with lattice constant `a` (Å)."""
        return Host(self.lattice, self.symbols, float(a))

    @property
    def nb(self) -> int:
        """Sites per conventional cell."""
        return len(self.symbols)

    @cached_property
    def basis(self) -> Array:
        """Fractional coordinates of the conventional cell (n_b, 3)."""
        return np.array(LATTICES[self.lattice].basis, float)

    @property
    def cell(self) -> Array:
        """Conventional cell, rows in Å (3, 3)."""
        return np.eye(3) * self.a

    @property
    def stencil(self) -> float:
        """Bond cut-off of the D norm, Å."""
        return LATTICES[self.lattice].stencil * self.a

    @property
    def nearest(self) -> float:
        """Nearest-neighbour distance, Å."""
        return LATTICES[self.lattice].nearest * self.a

    @property
    def bond(self) -> tuple[str, str]:
        """The two species at the nearest-neighbour distance."""
        return self.species[0], self.species[-1]

    @property
    def species(self) -> tuple[str, ...]:
        """The distinct species, sorted."""
        return tuple(sorted(set(self.symbols)))

    @property
    def elemental(self) -> bool:
        """Whether one species sits on every site."""
        return len(self.species) == 1

    def site_fractions(self, size: tuple[int, int, int]) -> Array:
        """Site positions of the supercell in conventional-cell units (n1 n2 n3 n_b, 3), order [x, y, z, b]."""
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1).astype(float)
        return np.asarray((grid[..., None, :] + self.basis).reshape(-1, 3))

    def positions(self, size: tuple[int, int, int]) -> Array:
        """Site positions of the supercell in Å (N, 3), order [x, y, z, b]."""
        return np.asarray(self.site_fractions(size) @ self.cell)

    def supercell_vectors(self, size: tuple[int, int, int]) -> Array:
        """Cell vectors of the supercell, rows in Å (3, 3)."""
        return np.asarray(self.cell * np.array(size, float)[:, None])

    def atoms(self, size: tuple[int, int, int] = (1, 1, 1)) -> Atoms:
        """The perfect supercell as periodic Atoms."""
        cells = size[0] * size[1] * size[2]
        return Atoms(
            list(self.symbols) * cells,
            positions=self.positions(size),
            cell=self.supercell_vectors(size),
            pbc=True,
        )

    @cached_property
    def s2(self) -> float:
        """(1/3) sum_rho |rho|^2 over the stencil of a site, Å^2, averaged over sites (theory.md section 1)."""
        i, j, shift = self.bonds((1, 1, 1))
        x = self.positions((1, 1, 1))
        d = x[j] + shift - x[i]
        return float((d**2).sum() / (3 * self.nb))

    def bonds(self, size: tuple[int, int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Directed stencil bonds of the perfect supercell: site i, site j and the image shift of j in Å (M, 3)."""
        from vesin import ase_neighbor_list

        i, j, S = ase_neighbor_list("ijS", self.atoms(size), self.stencil)
        order = np.lexsort((S[:, 2], S[:, 1], S[:, 0], j, i))
        i, j, S = i[order].astype(np.int64), j[order].astype(np.int64), S[order]
        return i, j, np.asarray(S @ self.supercell_vectors(size), float)


def guess_lattice_constant(lattice: str, species: list[str]) -> float:
    """A first lattice constant in Å: ASE's table for an elemental lattice it lists, else covalent radii."""
    if len(species) == 1:
        state = reference_states[atomic_numbers[species[0]]]
        if state is not None and state.get("symmetry") == lattice and "a" in state:
            return float(str(state["a"]))
    radii = [covalent_radii[atomic_numbers[s]] for s in species]
    bond = 2 * radii[0] if len(radii) == 1 else radii[0] + radii[1]
    return float(bond / LATTICES[lattice].nearest)
