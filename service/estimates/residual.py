"""The residual force of the surrogate's solution and eta_geo (T2, decisions C4 to C6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import DefectCell
from farfield.service.estimates.lattice import LatticeOperator

__all__ = ["GeometryError", "Residual", "core_residual", "geometry_error", "residual"]

Array = NDArray[np.float64]
Solver = Callable[[Array], Array]


@dataclass(frozen=True)
class Residual:
    """Forces oracle minus surrogate at u^h in the target cell, eV/Å (N, 3): measured core and modelled far field.

    The core has lost what its periodic images did in the verification cell, see `residual`.
    """

    core: Array
    far: Array

    @property
    def total(self) -> Array:
        """core + far, net force removed."""
        r = self.core + self.far
        return np.asarray(r - r.mean(axis=0))


def core_residual(mismatch: Array, xi: Array, cell: DefectCell, operator: LatticeOperator) -> Array:
    """r_core = (F - F^h)(y) + dH xi on the verification cell (N, 3), eV/Å (decisions C5).

    `mismatch` is (F - F^h) at the rattled call y = y0 + xi; `operator` the FC mismatch on this cell's grid, without
    rows for added atoms. Exact for a harmonic oracle.
    """
    return np.asarray(mismatch + cell.from_sites(operator.apply(cell.on_sites(xi))))


def residual(
    core: Array,
    cell: DefectCell,
    cell_u: Array,
    target: DefectCell,
    u: Array,
    operator: LatticeOperator,
    cell_operator: LatticeOperator,
) -> Residual:
    """The residual in the target cell.

    `core` (N_cell, 3) from `core_residual` at the restricted displacement `cell_u` (N_cell, 3); `u` (N, 3) the
    surrogate's solution; `operator` the FC mismatch M on the target's grid, `cell_operator` on the cell's: r_far = -M u
    outside the verification cell (T2). Inside, the linear part of what was measured belongs to the displacement
    repeated by the cell's images; it is exchanged for that of u, so that a harmonic mismatch is found exactly. Added
    atoms have no rows in M.
    """
    index = cell.map_to(target)
    linear = -target.from_sites(operator.apply(target.on_sites(u)))
    inside = np.zeros((target.natoms, 3))
    inside[index] = core + cell.from_sites(cell_operator.apply(cell.on_sites(cell_u))) + linear[index]
    far = linear
    far[index] = 0.0
    if target.added:
        far[-target.added :] = 0.0
    return Residual(inside, far)


@dataclass(frozen=True)
class GeometryError:
    """||D G^h r|| and the norms of its parts' own solutions, Å. `solution` (N, 3) = G^h r; `work` = <r, G^h r>, eV."""

    assembled: float
    core: float
    far: float
    solution: Array
    work: float
    converged: bool


def geometry_error(r: Residual, target: DefectCell, solver: Callable[[Array], tuple[Array, bool]]) -> GeometryError:
    """Apply G^h to both parts. `solver(r) -> (G^h r, converged)` is the CG of `hessian.solve`, which is linear in r."""
    core, ok_core = solver(r.core - r.core.mean(axis=0))
    far, ok_far = solver(r.far - r.far.mean(axis=0)) if np.abs(r.far).max() > 0 else (np.zeros_like(core), True)
    x = core + far
    return GeometryError(
        target.norm(x),
        target.norm(core),
        target.norm(far),
        x,
        float((r.total * x).sum()),
        ok_core and ok_far,
    )
