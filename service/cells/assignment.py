"""A defect from a structure of one's own: which host sites are vacant, substituted, or have atoms beside them (C14)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from farfield.errors import CrystalError
from farfield.service.cells.defect import Defect, Site
from farfield.service.cells.host import Host
from farfield.service.cells.images import minimum_image
from farfield.service.cells.ladder import Size, half_width

__all__ = ["Assigned", "assign"]

Array = NDArray[np.float64]

MISFIT = 0.06
"""Share by which the structure's cell may differ from the supercell of the host: another lattice constant."""
RADIUS = 0.5
"""An atom belongs to a site within this share of the nearest-neighbour distance."""
REACH = 0.8
"""Unmatched atoms lie within this share of the cell's half width about the defect."""
PROBES = 12
"""Atoms that are tried on every site when the origin of the structure is looked for."""


@dataclass(frozen=True)
class Assigned:
    """The defect, the supercell it was found in, and how many sites are vacant, extra and substituted."""

    defect: Defect
    size: Size
    vacant: int
    extra: int
    substituted: int

    def __str__(self) -> str:
        return f"{self.vacant} vacant, {self.extra} extra, {self.substituted} substituted"


def assign(host: Host, atoms: Atoms) -> Assigned:
    """Map `atoms` onto a supercell of `host` (affinely, so that another lattice constant does no harm) and compare.

    The origin may be anywhere. Atoms and sites are paired by the least sum of squared distances under periodic
    boundaries. Raises CrystalError where the cell is no supercell of the host's, nothing is changed, or the changes are
    too far apart for the cell to hold them.
    """
    size = _size(host, atoms)
    vectors = host.supercell_vectors(size)
    x = atoms.get_scaled_positions(wrap=False) @ vectors
    sites = host.positions(size)
    names = atoms.get_chemical_symbols()
    symbols = list(host.symbols) * (len(sites) // host.nb)
    shift = _origin(x, names, sites, symbols, vectors, host)
    for _ in range(3):  # the mean displacement belongs to the origin
        pairs = _pairs(x + shift, names, sites, symbols, vectors, RADIUS * host.nearest)
        if len(pairs):
            away = minimum_image(sites[pairs[:, 1]] - x[pairs[:, 0]] - shift, vectors)
            shift = shift + np.median(away, axis=0)
    pairs = _pairs(x + shift, names, sites, symbols, vectors, RADIUS * host.nearest)
    vacant = sorted(set(range(len(sites))) - set(pairs[:, 1].tolist()))
    extra = sorted(set(range(len(x))) - set(pairs[:, 0].tolist()))
    changed = [(int(s), names[int(a)]) for a, s in pairs if names[int(a)] != symbols[int(s)]]
    if not vacant and not extra and not changed:
        raise CrystalError("the defect file is the perfect host: 0 vacant, 0 extra, 0 substituted; give a defect")
    points = np.vstack([sites[vacant], (x + shift)[extra], sites[[s for s, _ in changed]]])
    first = points[0]
    near = first + minimum_image(points - first, vectors)
    centre = near.mean(axis=0)
    L = half_width(host, size)
    if np.linalg.norm(near - centre, axis=1).max() > REACH * L:
        raise CrystalError(
            f"the changes in the defect file lie up to {np.linalg.norm(near - centre, axis=1).max():.1f} Å from their "
            f"centre, beyond 0.8 of the half width {L:.1f} Å of its cell; give one defect in a larger cell"
        )
    cell = np.linalg.inv(host.cell)
    origin = np.floor(near[0] @ cell + 1e-6)
    b = np.array([*vacant, *(s for s, _ in changed)], int) % host.nb
    where = np.vstack([near[: len(vacant)], near[len(vacant) + len(extra) :]]) @ cell - host.basis[b] - origin
    placed: list[Site] = [(int(k), *(int(c) for c in np.rint(w))) for k, w in zip(b, where, strict=True)]  # type: ignore[misc]
    added = np.round(near[len(vacant) : len(vacant) + len(extra)] @ cell - origin, 8)
    defect = Defect(
        removed=tuple(placed[: len(vacant)]),
        changed=tuple((p, s) for p, (_, s) in zip(placed[len(vacant) :], changed, strict=True)),
        added=tuple((names[k], (float(p[0]), float(p[1]), float(p[2]))) for k, p in zip(extra, added, strict=True)),
    )
    return Assigned(defect, size, len(vacant), len(extra), len(changed))


def _size(host: Host, atoms: Atoms) -> Size:
    """Which supercell `atoms` is, by lengths and angles, however it is turned."""
    vectors = atoms.cell.array
    n = np.rint(np.linalg.norm(vectors, axis=1) / np.linalg.norm(host.cell, axis=1)).astype(int)
    expected = host.cell * n[:, None]
    misfit = vectors @ vectors.T - expected @ expected.T
    if n.min() < 1 or np.abs(misfit).max() > 2 * MISFIT * (expected**2).sum(axis=1).min():
        lengths = " x ".join(f"{x:.2f}" for x in np.linalg.norm(host.cell, axis=1))
        raise CrystalError(
            f"the defect file's cell is no integer multiple of the host's conventional cell ({lengths} Å) along its "
            "vectors; give a supercell of it"
        )
    return int(n[0]), int(n[1]), int(n[2])


def _origin(x: Array, names: list[str], sites: Array, symbols: list[str], vectors: Array, host: Host) -> Array:
    """The translation that puts most atoms near sites of their species."""
    best, found = (-1.0, -np.inf), np.zeros(3)
    for k in np.unique(np.linspace(0, len(x) - 1, PROBES).astype(int)):
        for b in range(host.nb):
            shift = sites[b] - x[k]
            d, s = _nearest(x + shift, sites, vectors)
            good = d < RADIUS * host.nearest
            right = sum(names[a] == symbols[s[a]] for a in np.flatnonzero(good))
            score = (float(right), -float((d[good] ** 2).sum()))
            if score > best:
                best, found = score, shift
    return found


def _nearest(x: Array, sites: Array, vectors: Array) -> tuple[Array, NDArray[np.int64]]:
    d = _distances(x, sites, vectors)
    return d.min(axis=1), d.argmin(axis=1)


def _distances(x: Array, sites: Array, vectors: Array) -> Array:
    away = (sites[None] - x[:, None]).reshape(-1, 3)
    return np.asarray(np.linalg.norm(minimum_image(away, vectors), axis=1).reshape(len(x), len(sites)))


def _pairs(x: Array, names: list[str], sites: Array, symbols: list[str], vectors: Array, radius: float) -> Array:
    """(atom, site) within `radius`, the least sum of squares first (M, 2)."""
    d = _distances(x, sites, vectors)
    a, s = linear_sum_assignment(np.minimum(d, 3 * radius) ** 2)
    keep = d[a, s] < radius
    return np.stack([a[keep], s[keep]], axis=1)
