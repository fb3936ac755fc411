"""Another electronic state: moments that jump from one rung to the next (decisions C12).

The two cells' energies lie on different surfaces, so that no fit may hold both. Moments are compared site by site where
the smaller cell maps into the larger one, up to a common sign, which is time reversal and costs nothing.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.service.campaign.observed import DefectLabel, Observed
from farfield.service.cells import DefectCell, Size

__all__ = ["MOVED", "inherited", "parent", "shift", "usable", "with_moments"]

Array = NDArray[np.float64]

MOVED = 0.2
"""mu_B by which the moment of a site may move against its parent."""


def parent(observed: Observed, size: Size, number: int) -> DefectLabel | None:
    """The newest label with moments from before decision `number` of a cell no larger than `size`: the previous rung,
    or a first training cell."""
    return next(
        (
            x
            for x in reversed(observed.defects)
            if x.decision < number
            and usable(x.moments, len(x.atoms))
            and all(a <= b for a, b in zip(x.size, size, strict=True))
        ),
        None,
    )


def usable(moments: Array | None, natoms: int) -> bool:
    """Whether collinear moments are there."""
    return moments is not None and moments.shape == (natoms,) and bool(np.isfinite(moments).all())


def shift(smaller: DefectCell, before: Array, larger: DefectCell, after: Array) -> float:
    """Largest |change| of a moment, mu_B, from `smaller` with `before` (N,) to `larger` with `after` (N',)."""
    here = after[smaller.map_to(larger)]
    return float(min(np.abs(here - before).max(), np.abs(here + before).max()))


def inherited(smaller: DefectCell, moments: Array, larger: DefectCell) -> Array:
    """Moments (N',) for `larger` from those of `smaller` (N,): mapped sites keep theirs, and the sites beyond repeat
    the smaller cell's lattice, so that a magnetic order goes on; where that has no atom, the median of the species."""
    out = np.empty(larger.natoms)
    symbols, own = np.array(larger.symbols), np.array(smaller.symbols)
    for s in set(larger.symbols):
        out[symbols == s] = np.median(moments[own == s]) if (own == s).any() else 0.0
    nb, n, m = larger.host.nb, np.array(larger.size), np.array(smaller.size)
    atom_of = np.full(smaller.nsites, -1)
    held = smaller.sites >= 0
    atom_of[smaller.sites[held]] = np.flatnonzero(held)
    sites = np.flatnonzero(larger.sites >= 0)
    cells = np.stack(np.unravel_index(larger.sites[sites] // nb, larger.size), axis=1)
    cells = np.where(2 * cells < n, cells, cells - n) % m
    there = atom_of[((cells[:, 0] * m[1] + cells[:, 1]) * m[2] + cells[:, 2]) * nb + larger.sites[sites] % nb]
    same = (there >= 0) & (own[there] == symbols[sites])
    out[sites[same]] = moments[there[same]]
    out[smaller.map_to(larger)] = moments
    return out


def with_moments(atoms: Atoms, moments: Array) -> Atoms:
    """A copy of `atoms` that starts from `moments`, rounded to 1e-6 mu_B: they are part of its identity."""
    out: Atoms = atoms.copy()
    out.set_initial_magnetic_moments(np.round(moments, 6))
    return out
