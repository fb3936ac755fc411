"""The host: a perfect crystal given by a conventional cell of any shape.

Sites of a supercell (n1, n2, n3) are ordered [x, y, z, b]: the cell index varies slowest, the basis site fastest, so
that an array over sites reshapes to (n1, n2, n3, n_b, ...) without a copy, which is what the Fourier code needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.prototypes import HCP, LATTICES, guess_lattice_constant, guess_ratio
from farfield.service.cells.stencils import bond_cutoff, shortest

__all__ = ["Host"]

Array = NDArray[np.float64]
Rows = tuple[tuple[float, float, float], ...]

CUBE: Rows = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
DIGITS = 10
"""Shapes and sites are kept to so many decimals, so that they do not hang on the last bits."""


@dataclass(frozen=True)
class Host:
    """A perfect crystal: `symbols` (n_b,), fractional `basis` (n_b, 3), `cell` (3, 3) rows in Å, `stencil` in Å.

    The cell is `shape` (rows) times `a`, Å: the lattice constant, or the length of the first vector. `sites` are the
    fractional coordinates; None: those of the named lattice.
    """

    lattice: str
    symbols: tuple[str, ...]
    a: float
    shape: Rows = CUBE
    sites: Rows | None = None

    @classmethod
    def named(
        cls, lattice: str, species: tuple[str, ...] | list[str], a: float | None = None, ratio: float | None = None
    ) -> Host:
        """A host of a named lattice; `a` in Å and `ratio` c/a (hcp), or None for first guesses from tables.

        Raises CrystalError for an unknown lattice or element and for a wrong number of species.
        """
        if lattice not in LATTICES and lattice != "hcp":
            raise CrystalError(f"unknown lattice {lattice!r}; use one of {', '.join(LATTICES)}, hcp, or give host.file")
        for s in species:
            if s not in atomic_numbers or atomic_numbers[s] == 0:
                raise CrystalError(f"unknown element {s!r} in host species; use a symbol such as Cu")
        need = 1 if lattice == "hcp" else max(LATTICES[lattice].species) + 1
        if len(species) != need or len(set(species)) != need:
            raise CrystalError(f"{lattice} takes {need} different species, not {list(species)}")
        if ratio is not None and lattice != "hcp":
            raise CrystalError(f"{lattice} has no ratio c/a; leave host.c_over_a out")
        if a is None:
            a = guess_lattice_constant(lattice, list(species))
        if not (np.isfinite(a) and a > 0):
            raise CrystalError(f"lattice constant {a} Å is not a positive number")
        if lattice == "hcp":
            c = guess_ratio(species[0]) if ratio is None else ratio
            if not (np.isfinite(c) and c > 0):
                raise CrystalError(f"c/a = {c} is not a positive number")
            shape = ((1.0, 0.0, 0.0), (0.0, round(3**0.5, 15), 0.0), (0.0, 0.0, float(c)))
            return cls(lattice, (species[0],) * 4, float(a), shape, HCP)
        return cls(lattice, tuple(species[k] for k in LATTICES[lattice].species), float(a))

    @classmethod
    def of_cell(cls, name: str, symbols: tuple[str, ...], cell: Array, sites: Array) -> Host:
        """A host from its cell (3, 3) Å and fractional sites (n_b, 3), called `name` in messages.

        Raises CrystalError for sites that coincide or a cell without volume.
        """
        cell = np.asarray(cell, float)
        a = float(np.linalg.norm(cell[0]))
        if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1e-3:
            raise CrystalError("the host's cell has no volume; give three vectors in Å")
        f = np.asarray(sites, float) % 1.0
        host = cls(name, tuple(symbols), a, rows(cell / a), rows(np.where(f > 1 - 1e-7, 0.0, f)))
        if shortest(host.cell, host.basis) < 0.5:
            raise CrystalError("two sites of the host are nearer than 0.5 Å; mend its sites or its unit (Å)")
        return host

    def with_constant(self, a: float) -> Host:
        """The same crystal with lattice constant `a` (Å)."""
        return replace(self, a=float(a))

    def deformed(self, strain: Array, shifts: Array | None = None) -> Host:
        """The crystal under a homogeneous strain (3, 3), its sites shifted by (n_b, 3) Å; `a` is kept as the unit."""
        shape = np.array(self.shape) @ (np.eye(3) + strain)
        sites = self.basis if shifts is None else self.basis + shifts @ np.linalg.inv(self.cell)
        named = self.sites is None and shifts is None
        return replace(self, shape=rows(shape), sites=None if named else rows(sites))

    @property
    def cubic(self) -> bool:
        """Whether the cell is a cube along the axes."""
        return self.shape == CUBE

    @property
    def nb(self) -> int:
        """Sites per conventional cell."""
        return len(self.symbols)

    @cached_property
    def basis(self) -> Array:
        """Fractional coordinates of the conventional cell (n_b, 3)."""
        return np.array(LATTICES[self.lattice].basis if self.sites is None else self.sites, float)

    @property
    def cell(self) -> Array:
        """Conventional cell, rows in Å (3, 3)."""
        return np.array(self.shape) * self.a

    @property
    def _prototype(self) -> bool:
        return self.lattice in LATTICES and self.sites is None and self.cubic

    @cached_property
    def stencil(self) -> float:
        """Bond cut-off of the D norm, Å: of the named lattice, else by `stencils.bond_cutoff`."""
        return LATTICES[self.lattice].stencil * self.a if self._prototype else bond_cutoff(self.cell, self.basis)

    @cached_property
    def nearest(self) -> float:
        """Nearest-neighbour distance, Å."""
        return LATTICES[self.lattice].nearest * self.a if self._prototype else shortest(self.cell, self.basis)

    @cached_property
    def bond(self) -> tuple[str, str]:
        """The two species at the nearest-neighbour distance."""
        if self._prototype or self.elemental:
            return self.species[0], self.species[-1]
        from vesin import ase_neighbor_list

        i, j, d = ase_neighbor_list("ijd", self.atoms(), 1.01 * self.nearest)
        k = int(d.argmin())
        first, second = sorted((self.symbols[int(i[k])], self.symbols[int(j[k])]))
        return first, second

    @property
    def volume(self) -> float:
        """Of the conventional cell, Å^3."""
        return abs(float(np.linalg.det(self.cell)))

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


def rows(values: Array) -> Rows:
    """Rows of three as tuples, rounded."""
    return tuple((float(x), float(y), float(z)) for x, y, z in np.round(values, DIGITS))
