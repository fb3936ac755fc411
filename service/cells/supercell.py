"""The defect in a periodic supercell, and the map to a larger one."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.defect import Defect, Site, place
from farfield.service.cells.host import Host
from farfield.service.cells.images import is_box, minimum_image
from farfield.service.cells.ladder import Size, half_width

__all__ = ["DefectCell"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

FACE = 1e-3
"""Å by which sites on a cell's face count as inside: the last bit of a distance must not move a shell."""


class DefectCell:
    """The defect in a periodic supercell of `size`.

    Atoms are the host's sites in their order without the removed ones, then the added atoms. `x0` (N, 3): ideal
    positions in Å; `sites` (N,): the host site of each atom, -1 for added ones; `radius` (N,): distance from the
    centre, minimum image, Å. Displacements u (N, 3) are measured from `x0`.
    """

    def __init__(self, host: Host, defect: Defect, size: Size) -> None:
        self.host, self.defect, self.size = host, defect, size
        positions = host.positions(size)
        self.nsites = len(positions)
        keep = np.ones(self.nsites, bool)
        keep[[self._index(s) for s in defect.removed]] = False
        symbols = list(host.symbols) * (self.nsites // host.nb)
        for site, s in defect.changed:
            symbols[self._index(site)] = s
        extra = np.array([p for _, p in defect.added], float).reshape(-1, 3) @ host.cell
        self.x0: Array = np.vstack([positions[keep], extra])
        self.symbols: list[str] = [s for s, k in zip(symbols, keep, strict=True) if k] + [s for s, _ in defect.added]
        self.sites: Index = np.concatenate([np.flatnonzero(keep), np.full(len(extra), -1)]).astype(np.int64)
        self.added = len(extra)
        self.cell = host.supercell_vectors(size)
        self.natoms = len(self.x0)

    def _index(self, site: Site) -> int:
        b, cell = place(site)
        i, j, k = (int(c) % n for c, n in zip(cell, self.size, strict=True))
        return ((i * self.size[1] + j) * self.size[2] + k) * self.host.nb + b

    @property
    def n_cells(self) -> int:
        """Conventional cells in the supercell."""
        return self.size[0] * self.size[1] * self.size[2]

    @property
    def references(self) -> float:
        """How many host cells E_f subtracts: N_own / n_b for an elemental host, else n_cells (decisions C9).

        For an elemental host this holds the chemical potential of its own species, so E - references * E(host cell) is
        the formation energy up to constants of foreign species.
        """
        if self.host.elemental:
            return sum(s == self.host.species[0] for s in self.symbols) / self.host.nb
        return float(self.n_cells)

    @property
    def half_width(self) -> float:
        """L, Å."""
        return half_width(self.host, self.size)

    @cached_property
    def radius(self) -> Array:
        """Distance of each atom's ideal position from the defect centre, minimum image, Å (N,)."""
        return np.asarray(np.linalg.norm(self._wrapped(), axis=1))

    def outside(self, distance: float) -> NDArray[np.bool_]:
        """Which atoms lie farther than `distance` Å from the centre (N,); sites on a face at that distance do not."""
        return np.asarray(self.radius > distance + FACE)

    @cached_property
    def _shell(self) -> NDArray[np.bool_]:
        """The outer shell, beyond 0.8 of the largest radius: it carries the periodic k = 0 mode."""
        return np.asarray(self.radius > 0.8 * self.radius.max() - FACE)

    def _wrapped(self) -> Array:
        """Ideal positions relative to the centre, each in the cell [-1/2, 1/2) of the supercell, Å."""
        f = (self.x0 @ np.linalg.inv(self.host.cell) - self.defect.centre(self.host)) / np.array(self.size)
        f -= np.floor(f + 0.5 + 1e-9)
        r = np.asarray((f * np.array(self.size)) @ self.host.cell)
        return r if is_box(self.cell) else minimum_image(r, self.cell)

    def atoms(self, u: Array) -> Atoms:
        """The cell displaced by `u` (N, 3) Å."""
        return Atoms(self.symbols, positions=self.x0 + u, cell=self.cell, pbc=True)

    def on_sites(self, u: Array) -> Array:
        """`u` on the host's sites (N_sites, 3): zero where an atom is missing, added atoms dropped."""
        out = np.zeros((self.nsites, 3))
        mask = self.sites >= 0
        out[self.sites[mask]] = u[mask]
        return out

    def from_sites(self, U: Array) -> Array:
        """Site values (N_sites, 3) on the cell's atoms; zero on added atoms."""
        out = np.zeros((self.natoms, 3))
        mask = self.sites >= 0
        out[mask] = U[self.sites[mask]]
        return out

    def map_to(self, larger: DefectCell) -> Index:
        """Atom of `larger` that stands for each atom here (N,), by minimum image about the defect.

        Sites on the cell's faces go to one side only, so that no atom of `larger` is named twice.
        Raises CrystalError when `larger` is smaller in some direction.
        """
        if any(a > b for a, b in zip(self.size, larger.size, strict=True)):
            raise CrystalError(f"cell {self.size} does not fit in {larger.size}")
        centre = self.defect.centre(self.host)
        f = self._wrapped() @ np.linalg.inv(self.host.cell) + centre
        atom_of = np.full(larger.nsites, -1, np.int64)
        held = larger.sites >= 0
        atom_of[larger.sites[held]] = np.flatnonzero(held)
        out = np.empty(self.natoms, np.int64)
        ordinary = self.natoms - self.added
        b = self.sites[:ordinary] % self.host.nb
        cells = np.rint(f[:ordinary] - self.host.basis[b]).astype(np.int64) % np.array(larger.size)
        out[:ordinary] = atom_of[
            ((cells[:, 0] * larger.size[1] + cells[:, 1]) * larger.size[2] + cells[:, 2]) * self.host.nb + b
        ]
        out[ordinary:] = larger.natoms - larger.added + np.arange(self.added)
        return out

    def restrict(self, larger: DefectCell, u: Array) -> Array:
        """The displacement of `larger` on this cell's atoms, the mean of its outer shell removed (N, 3).

        That mean is the periodic k = 0 mode (theory.md section 7, 10).
        """
        out = u[self.map_to(larger)]
        return np.asarray(out - out[self._shell].mean(axis=0))

    def extend(self, smaller: DefectCell, u: Array) -> Array:
        """The displacement of `smaller` put into this cell, zero outside (N, 3)."""
        out = np.zeros((self.natoms, 3))
        out[smaller.map_to(self)] = u - u[smaller._shell].mean(axis=0)
        return out

    @cached_property
    def bonds(self) -> tuple[Index, Index]:
        """Directed stencil bonds between the cell's atoms (i, j); added atoms are linked to all within the stencil."""
        i, j, _ = self.host.bonds(self.size)
        atom_of = np.full(self.nsites, -1, np.int64)
        held = self.sites >= 0
        atom_of[self.sites[held]] = np.flatnonzero(held)
        bi, bj = atom_of[i], atom_of[j]
        both = (bi >= 0) & (bj >= 0)
        bi, bj = bi[both], bj[both]
        for k in range(self.natoms - self.added, self.natoms):
            d = np.linalg.norm(minimum_image(self.x0[:k] - self.x0[k], self.cell), axis=1)
            near = np.flatnonzero(d <= self.host.stencil)
            bi = np.concatenate([bi, near, np.full(len(near), k)])
            bj = np.concatenate([bj, np.full(len(near), k), near])
        return bi, bj

    def strain(self, u: Array) -> Array:
        """|Du(l)| per atom (N,), Å: the root of the sum over stencil bonds of |u(j) - u(i)|^2 (theory.md section 1)."""
        i, j = self.bonds
        d2 = ((u[j] - u[i]) ** 2).sum(axis=1)
        return np.asarray(np.sqrt(np.bincount(i, weights=d2, minlength=self.natoms)))

    def norm(self, u: Array, beyond: float | None = None, p: float = 2.0) -> float:
        """||Du||_{lp}, Å; only atoms farther than `beyond` Å from the centre where given."""
        d = self.strain(u)
        if beyond is not None:
            d = d[self.outside(beyond)]
        return float((d**p).sum() ** (1 / p))

    def start(self, noise: float, rng: np.random.Generator) -> Array:
        """A starting displacement: the named geometry (dumbbells parted) plus `noise` Å of normal noise (N, 3)."""
        u = noise * rng.normal(size=(self.natoms, 3)) if noise else np.zeros((self.natoms, 3))
        if self.defect.dumbbell is not None:
            half = 0.4 * self.host.nearest * np.array(self.defect.dumbbell)
            shared = int(np.linalg.norm(self.x0[: self.natoms - 1] - self.x0[-1], axis=1).argmin())
            u[-1] += half
            u[shared] -= half
        return np.asarray(u)
