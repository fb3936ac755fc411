"""Cells: host, defect, supercells on the ladder, strains, displaced cells, and the map to the target cell."""

from farfield.service.cells.defect import Defect
from farfield.service.cells.displacements import DisplacedCells, Displacement, ForceConstantCell
from farfield.service.cells.host import Host
from farfield.service.cells.ladder import Size, first_rung, half_width, is_complete, next_rung
from farfield.service.cells.nondiagonal import NONDIAGONAL, NonDiagonalCells, displaced_cells
from farfield.service.cells.parameters import Parameter, free_parameters
from farfield.service.cells.prototypes import LATTICES
from farfield.service.cells.strains import random_shifts, shift_scale, strain_pairs, strained, sublattices
from farfield.service.cells.supercell import DefectCell

__all__ = [
    "LATTICES",
    "NONDIAGONAL",
    "Defect",
    "DefectCell",
    "DisplacedCells",
    "Displacement",
    "ForceConstantCell",
    "Host",
    "NonDiagonalCells",
    "Parameter",
    "Size",
    "displaced_cells",
    "first_rung",
    "free_parameters",
    "half_width",
    "is_complete",
    "next_rung",
    "random_shifts",
    "shift_scale",
    "strain_pairs",
    "strained",
    "sublattices",
]
