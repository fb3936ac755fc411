"""Which displacements in which small cells determine all force constants of a supercell, at the least cost.

A displacement of sublattice s along d in the cell of a group of wave vectors tells D_q d for each of them; symmetry
turns that into D at the other wave vectors of its star, for the images of s and d. Wanted are three independent
directions for every star and sublattice. The choice is greedy, by what is new per cost, and then freed of what the
rest already gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.wave_vectors import PointOperation, WaveVectors

__all__ = ["WaveDisplacement", "cover"]

Array = NDArray[np.float64]

FLOOR = 8
"""Atoms below which a call costs the same (theory.md section 4, step 7)."""
EXPONENT = 2.5
"""Of the cost in the number of atoms, as for plane waves before it is measured."""
DIRECTIONS: tuple[tuple[float, float, float], ...] = (
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (0.48, 0.6, 0.64),  # of length one, on no axis or mirror of a cubic or hexagonal crystal
)


@dataclass(frozen=True)
class WaveDisplacement:
    """Sublattice `site` moved along unit vector `direction` in the cell of the wave vectors `group`.

    `mirror` maps +h to -h and keeps the atom and the cell; None where both signs must be calculated.
    """

    group: tuple[int, ...]
    site: int
    direction: tuple[float, float, float]
    mirror: PointOperation | None

    @property
    def calls(self) -> int:
        """How many displaced cells it takes."""
        return 1 if self.mirror is not None else 2


def cover(waves: WaveVectors) -> list[WaveDisplacement]:
    """The displacements, in a fixed order. Raises CrystalError where none suffice."""
    spans = _spans(waves)
    candidates = [
        WaveDisplacement(group, site, direction, _mirror(waves, group, site, direction))
        for group in _groups(waves)
        for site in range(len(waves.sites))
        for direction in DIRECTIONS
    ]
    gains = [_told(waves, d, spans) for d in candidates]
    costs = np.array([d.calls * max(len(d.group) * len(waves.sites), FLOOR) ** EXPONENT for d in candidates])
    full = 3 * len(gains[0]) * gains[0].shape[1]
    known = np.zeros_like(gains[0])
    chosen: list[int] = []
    while (have := _rank(known)) < full:
        after = np.array([_rank(known + g) for g in gains])
        best = int(np.argmax((after - have) / costs))
        if after[best] == have:
            raise CrystalError("no displacements determine all force constants; check the host's symmetry")
        chosen.append(best)
        known = known + gains[best]
    for k in sorted(chosen, key=lambda k: -costs[k]):
        rest = [j for j in chosen if j != k]
        if rest and _rank(np.sum([gains[j] for j in rest], axis=0)) == full:
            chosen = rest
    return [candidates[k] for k in sorted(chosen)]


def _groups(waves: WaveVectors) -> list[tuple[int, ...]]:
    """Subgroups of one or two generators, one of each kind that symmetry does not map on another.

    No larger than the largest that one wave vector needs, or than what costs no more than the smallest.
    """
    first = [int(np.argmax(waves.stars == s)) for s in range(waves.stars.max() + 1)]
    cyclic = [waves.group(q) for q in first]
    limit = max(max(map(len, cyclic)), FLOOR // len(waves.sites))
    seen: dict[tuple[int, ...], None] = {}
    moves = np.array([g.wave for g in waves.operations])
    for a, group in zip(first, cyclic, strict=True):
        for b in (None, *range(len(waves))):
            both = group if b is None else waves.group(a, b)
            if len(both) <= limit:
                images = np.sort(moves[:, list(both)], axis=1)
                seen.setdefault(tuple(int(x) for x in images[np.lexsort(images.T[::-1])[0]]))
    return sorted(seen, key=lambda g: (len(g), g))


def _mirror(waves: WaveVectors, group: tuple[int, ...], site: int, direction: Sequence[float]) -> PointOperation | None:
    d, mine = np.array(direction), set(group)
    for g in waves.operations:
        if g.site[site] == site and np.allclose(g.rotation @ d, -d, atol=1e-8) and set(g.wave[list(group)]) == mine:
            return g
    return None


def _spans(waves: WaveVectors) -> dict[tuple[int, int, int], Array]:
    """By (q, sublattice, direction): sum of d d^T of the images at the star's first wave vector, (n, 3, 3)."""
    first = np.array([int(np.argmax(waves.stars == s)) for s in range(waves.stars.max() + 1)])
    out = {}
    for q in range(len(waves)):
        target = first[waves.stars[q]]
        reached = [g for g in waves.operations if g.wave[q] == target or waves.negative[g.wave[q]] == target]
        for site in range(len(waves.sites)):
            for k, d in enumerate(DIRECTIONS):
                total = np.zeros((len(waves.sites), 3, 3))
                for g in reached:
                    image = g.rotation @ np.array(d)
                    total[g.site[site]] += np.outer(image, image)
                out[q, site, k] = total
    return out


def _told(waves: WaveVectors, d: WaveDisplacement, spans: dict[tuple[int, int, int], Array]) -> Array:
    """(stars, n, 3, 3): sums of d d^T over what the displacement tells."""
    out = np.zeros((waves.stars.max() + 1, len(waves.sites), 3, 3))
    k = DIRECTIONS.index(d.direction)
    for q in d.group:
        out[waves.stars[q]] += spans[q, d.site, k]
    return out


def _rank(told: Array) -> int:
    """How many independent directions, over all stars and sublattices."""
    return int((np.linalg.eigvalsh(told) > 1e-6).sum())
