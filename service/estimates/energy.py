"""The signed formation-energy error eta_E (T3, decisions C2 and C5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import DefectCell
from farfield.service.estimates.lattice import LatticeOperator

__all__ = ["EnergyError", "energy_error"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EnergyError:
    """E_f - E_f^h in eV and its terms: `core` measured, `tail` from FC between the cells, `relaxation` -1/2 <r, G r>.

    `bound_V` = (eps_V + eps_C) sum_{>L} |Du|^3 / (3 s2^{3/2}) is the neglected cubic tail (T3 with the 1/3 of C3).
    """

    core: float
    tail: float
    relaxation: float
    bound_V: float

    @property
    def total(self) -> float:
        """eta_E: E_f^h + total is the corrected formation energy."""
        return self.core + self.tail + self.relaxation


def energy_error(
    *,
    mismatch_energy: float,
    mismatch_reference: float,
    mismatch_forces: Array,
    xi: Array,
    cell: DefectCell,
    cell_operator: LatticeOperator,
    cell_u: Array,
    target: DefectCell,
    target_operator: LatticeOperator,
    target_u: Array,
    work: float,
    virial_total: float,
) -> EnergyError:
    """Assemble T3.

    `mismatch_energy` (E - E^h)(y) at the rattled call, `mismatch_reference` (E - E^h) of one host cell, eV;
    `mismatch_forces` (F - F^h)(y) (N_cell, 3); `xi` the rattle (N_cell, 3); `cell_u` the restricted displacement
    without rattle; `work` = <r, G^h r>; `virial_total` = eps_V + eps_C in eV. Counts of host cells are the
    verification cell's (C2): own species of an elemental host are inside `cell.references`.
    """
    x = cell.on_sites(xi)
    at_y0 = mismatch_energy + float((mismatch_forces * xi).sum()) + 0.5 * float((cell_operator.apply(x) * x).sum())
    core = at_y0 - cell.references * mismatch_reference
    tail = 0.5 * (target_operator.energy(target.on_sites(target_u)) - cell_operator.energy(cell.on_sites(cell_u)))
    d = target.strain(target_u)[target.outside(cell.half_width)]
    bound = virial_total * float((d**3).sum()) / (3 * target.host.s2**1.5)
    return EnergyError(core, tail, -0.5 * work, bound)
