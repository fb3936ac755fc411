"""What a verification cell cannot see: errors of longer reach than the cell, folded there as in the cells trained on.

A cell measures the sum of the residual force over its periodic images. Where the oracle's forces reach farther than the
half width L, a surrogate trained on a cell of the same longest edge has learnt that sum, and not its parts: measured on
Cu and W, a verification call on 3x3x3 after 2x3x3 was trained on finds 0.2 to 0.9 of the error, and one on a longer
edge than any before 0.6 to 1.4 (docs/effectivity.md; theory.md c1 and section 7, 6). What is left hidden is taken
as a share of the last estimate on an edge that was new.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import Host, Size
from farfield.service.estimates.lattice import nearest_distances

__all__ = ["HIDDEN", "longest_edge", "reach"]

Array = NDArray[np.float64]

HIDDEN = 0.05
"""True error after a cell of a new longest edge was trained on, over the estimate before it. Measured on vacancies of
Cu (Mishin, EMT) and W (Zhou), two bases: 0.02 to 0.2."""
SHARE = 1e-3
"""Of the norm of the force constants, which lies beyond their reach."""


def reach(host: Host, constants: Array, size: Size) -> float:
    """Distance in Å beyond which `SHARE` of the norm of the force constants C (see `lattice`) lies, self terms left
    out: about 6.5 Å for EAM of Cu and W, 3.9 Å for Stillinger-Weber and Tersoff."""
    d = nearest_distances(host, size).ravel()
    squares = (constants.reshape(-1, 3, host.nb, 3) ** 2).sum(axis=(1, 3)).ravel()
    pairs = d > 1e-6
    order = np.argsort(-d[pairs], kind="stable")
    beyond = np.cumsum(squares[pairs][order])
    first = int(np.searchsorted(beyond, SHARE**2 * beyond[-1]))
    return float(d[pairs][order][first])


def longest_edge(host: Host, sizes: Iterable[Size]) -> float:
    """The longest edge of supercells of these sizes, Å; 0 of none."""
    lengths = np.linalg.norm(host.cell, axis=1)
    return max((float((np.array(s) * lengths).max()) for s in sizes), default=0.0)
