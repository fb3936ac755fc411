"""Minimum images in periodic cells of any shape."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_box", "minimum_image"]

Array = NDArray[np.float64]

TIE = 1e-7
"""Å^2 by which another image must be nearer: of equals, the first of a fixed order is taken on every machine."""


def is_box(cell: Array) -> bool:
    """Whether the vectors (rows) are at right angles."""
    gram = cell @ cell.T
    return bool(np.abs(gram - np.diag(np.diag(gram))).max() < 1e-9 * np.diag(gram).max())


def minimum_image(vectors: Array, cell: Array) -> Array:
    """The shortest image (M, 3) Å of each vector in a supercell with rows `cell` (3, 3) Å.

    In a box rounding is enough. Else the neighbours of the rounded image are compared; a cell so skew that a farther
    one is nearest should be reduced first.
    """
    f = vectors @ np.linalg.inv(cell)
    f = f - np.floor(f + 0.5 + 1e-9)
    near = np.asarray(f @ cell)
    if is_box(cell):
        return near
    best = (near**2).sum(axis=1)
    out = near.copy()
    for shift in product((-1, 0, 1), repeat=3):
        if any(shift):
            other = near + np.array(shift, float) @ cell
            d = (other**2).sum(axis=1)
            closer = d < best - TIE
            out[closer], best[closer] = other[closer], d[closer]
    return out
