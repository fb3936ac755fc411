"""The parametric column: posterior spread of the formation energy and of the geometry (theory.md section 3).

It ignores the model's bias (theory.md c6: 0.23-0.54 of the true error), so it ranks and is shown beside eta,
never in it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import DefectCell

__all__ = ["energy_gradient", "geometry_spread"]

Array = NDArray[np.float64]


def energy_gradient(row: Array, host_row: Array, target: DefectCell) -> Array:
    """g_E = B(u^h) - references * B(host cell) (K,): no geometry derivative, by the envelope theorem (C9)."""
    return np.asarray(row - target.references * host_row)


def geometry_spread(whitened: Array, target: DefectCell, green: Callable[[Array], Array]) -> float:
    """sqrt(tr(M Sigma)) in Å with M = J^T J, J = D G Phi_F.

    `whitened` (K, 3N) = root^T Phi_F^T with Sigma = root root^T (`Posterior.whiten` of the target cell's force rows);
    `green` (N, 3) -> (N, 3) the lattice Green operator, applied row by row to keep memory flat.
    """
    total = 0.0
    for row in whitened:
        total += target.norm(green(row.reshape(-1, 3))) ** 2
    return float(np.sqrt(total))
