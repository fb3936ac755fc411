"""The defect and its cells: host sites, what is removed, changed or added, and the map to a larger cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.host import Host
from farfield.service.cells.images import is_box, minimum_image
from farfield.service.cells.ladder import Size, half_width

__all__ = ["INTERSTITIALS", "Defect", "DefectCell"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

INTERSTITIALS: dict[str, dict[str, tuple[float, float, float]]] = {
    "octahedral": {
        "fcc": (0.5, 0.5, 0.5),
        "bcc": (0.5, 0.5, 0.0),
        "b2": (0.5, 0.5, 0.0),
        "hcp": (0.0, 2 / 3, 0.25),
    },
    "tetrahedral": {
        "fcc": (0.25, 0.25, 0.25),
        "bcc": (0.5, 0.25, 0.0),
        "b2": (0.5, 0.25, 0.0),
        "diamond": (0.5, 0.5, 0.5),
        "zincblende": (0.5, 0.5, 0.5),
        "rocksalt": (0.25, 0.25, 0.25),
    },
}
"""Fractional position of named interstitials by lattice."""

FACE = 1e-3
"""Å by which sites on a cell's face count as inside: the last bit of a distance must not move a shell."""

_DUMBBELLS = {"dumbbell-100": (1, 0, 0), "dumbbell-110": (1, 1, 0), "dumbbell-111": (1, 1, 1)}


Site = int | tuple[int, int, int, int]


def place(site: Site) -> tuple[int, Index]:
    """The basis index of a site and its cell (3,)."""
    if isinstance(site, tuple):
        return site[0], np.array(site[1:], np.int64)
    return int(site), np.zeros(3, np.int64)


def plain(site: Site) -> Site:
    """The short form of a site in the origin cell."""
    return site[0] if isinstance(site, tuple) and not any(site[1:]) else site


@dataclass(frozen=True)
class Defect:
    """How the host is changed, in and about its origin cell.

    `removed`: sites taken out; `changed`: (site, species); `added`: (species, position in conventional cells). A site
    is the index of a basis site of the origin cell, or (basis site, i, j, k) with the cell it lies in.
    `dumbbell`: direction along which an added atom and the site it shares part (Å apart: 0.8 r_nn), or None.
    """

    removed: tuple[Site, ...] = ()
    changed: tuple[tuple[Site, str], ...] = ()
    added: tuple[tuple[str, tuple[float, float, float]], ...] = ()
    dumbbell: tuple[float, float, float] | None = None

    @classmethod
    def named(
        cls,
        host: Host,
        kind: str,
        *,
        species: str | None = None,
        site: int = 0,
        position: str | tuple[float, float, float] | list[float] | None = None,
    ) -> Defect:
        """A vacancy, substitution or interstitial. Raises CrystalError for what does not fit the host."""
        if not 0 <= site < host.nb:
            raise CrystalError(f"defect site {site} is not one of the host's basis sites 0..{host.nb - 1}")
        if species is not None and atomic_numbers.get(species, 0) == 0:
            raise CrystalError(f"unknown element {species!r} in the defect; use a symbol such as Cu")
        if kind == "vacancy":
            return cls(removed=(site,))
        if kind == "substitution":
            if species is None or species == host.symbols[site]:
                raise CrystalError("a substitution needs a species other than the one on its site; set defect.species")
            return cls(changed=((site, species),))
        if kind != "interstitial":
            raise CrystalError(f"unknown defect {kind!r}; use vacancy, interstitial, substitution or complex")
        species = species or host.symbols[site]
        if position is None:
            raise CrystalError("an interstitial needs defect.position: a name such as 'octahedral' or [x, y, z]")
        if isinstance(position, str):
            if position in _DUMBBELLS:
                b = host.basis[site]
                v = np.array(_DUMBBELLS[position], float)
                v /= np.linalg.norm(v)
                return cls(
                    added=((species, (float(b[0]), float(b[1]), float(b[2]))),),
                    dumbbell=(float(v[0]), float(v[1]), float(v[2])),
                )
            known = {k: v for k, v in INTERSTITIALS.items() if host.lattice in v}
            if position not in known:
                names = ", ".join([*known, *_DUMBBELLS])
                raise CrystalError(f"{host.lattice} has no {position!r} interstitial; use {names} or [x, y, z]")
            return cls(added=((species, known[position][host.lattice]),))
        x, y, z = (float(c) % 1.0 for c in position)  # the origin cell stands for all
        near = host.site_fractions((3, 3, 3)) - 1 - np.array([x, y, z])
        if np.linalg.norm(near @ host.cell, axis=1).min() < 0.2 * host.nearest:
            raise CrystalError("the interstitial sits on a host site; use a dumbbell or move it")
        return cls(added=((species, (x, y, z)),))

    @classmethod
    def assembled(
        cls,
        host: Host,
        removed: Sequence[Site],
        changed: Sequence[tuple[Site, str]],
        added: Sequence[tuple[str, tuple[float, float, float]]],
    ) -> Defect:
        """A defect of several parts. Raises CrystalError for sites named twice, off the host, or nothing at all."""
        if not (removed or changed or added):
            raise CrystalError("a complex defect needs defect.removed, defect.changed, defect.added or a defect.file")
        sites = [*removed, *(s for s, _ in changed)]
        for site in sites:
            if not 0 <= place(site)[0] < host.nb:
                raise CrystalError(f"defect site {place(site)[0]} is not one of the host's 0..{host.nb - 1}")
        if len({(place(s)[0], *place(s)[1].tolist()) for s in sites}) < len(sites):
            raise CrystalError("the defect names a site twice; take one out")
        for site, s in changed:
            if s == host.symbols[place(site)[0]]:
                raise CrystalError(f"defect.changed puts {s} where {s} is already; name another element")
        for s in [*(s for _, s in changed), *(s for s, _ in added)]:
            if atomic_numbers.get(s, 0) == 0:
                raise CrystalError(f"unknown element {s!r} in the defect; use a symbol such as Cu")
        return cls(tuple(map(plain, removed)), tuple((plain(s), name) for s, name in changed), tuple(added))

    def centre(self, host: Host) -> Array:
        """The defect's centre in units of the conventional cell (3,)."""
        return np.asarray(np.mean(self._points(host), axis=0), float)

    def extent(self, host: Host) -> float:
        """Distance of its farthest part from the centre, Å."""
        away = (np.array(self._points(host)) - self.centre(host)) @ host.cell
        return float(np.linalg.norm(away, axis=1).max())

    def _points(self, host: Host) -> list[Array]:
        sites = [place(s) for s in self.removed] + [place(s) for s, _ in self.changed]
        points: list[Array] = [host.basis[b] + cell for b, cell in sites]
        return points + [np.array(p, float) for _, p in self.added]

    def excess(self, host: Host) -> dict[str, int]:
        """dN_s: atoms of each species beyond the perfect supercell."""
        out: dict[str, int] = {}
        for site in self.removed:
            b = place(site)[0]
            out[host.symbols[b]] = out.get(host.symbols[b], 0) - 1
        for site, s in self.changed:
            b = place(site)[0]
            out[host.symbols[b]] = out.get(host.symbols[b], 0) - 1
            out[s] = out.get(s, 0) + 1
        for s, _ in self.added:
            out[s] = out.get(s, 0) + 1
        return {s: n for s, n in sorted(out.items()) if n}

    def species(self, host: Host) -> tuple[str, ...]:
        """All species of host and defect, sorted."""
        return tuple(sorted({*host.species, *(s for _, s in self.changed), *(s for s, _ in self.added)}))


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
