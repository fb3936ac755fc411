"""The defect: what of the host is removed, changed or added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.host import Host

__all__ = ["INTERSTITIALS", "Defect", "Site", "place"]

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
