"""Hosts of one's own: any periodic structure in the conventional cell of its space group (decisions C14)."""

from __future__ import annotations

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.host import Host

__all__ = ["conventional"]

Array = NDArray[np.float64]

TOLERANCE = 1e-4
"""Å, of the symmetry search: coordinates in files have few digits."""


def conventional(atoms: Atoms, name: str) -> Host:
    """The crystal `atoms` in the conventional cell of its space group, as it is turned.

    A primitive cell has small heights and skew supercells; the conventional one is the best box its symmetry allows.
    A hexagonal cell is doubled into the orthohexagonal one (a, a + 2 b, c).
    """
    numbers = atoms.get_atomic_numbers().tolist()
    cell = (atoms.cell.array.tolist(), atoms.get_scaled_positions().tolist(), numbers)
    found = spglib.standardize_cell(cell, to_primitive=False, no_idealize=True, symprec=TOLERANCE)
    if found is None:
        raise CrystalError(f"no symmetry found in {name}; check its cell and sites")
    vectors, sites, kinds = (np.asarray(x) for x in found)
    symbols = Atoms(numbers=kinds).get_chemical_symbols()
    a, b, c = vectors
    hexagonal = np.isclose(np.linalg.norm(a), np.linalg.norm(b), rtol=1e-4) and np.isclose(
        abs(a @ b) / (a @ a), 0.5, atol=1e-4
    )
    if hexagonal and abs(a @ c) + abs(b @ c) < 1e-4 * (c @ c):
        second = a + 2 * b if a @ b < 0 else 2 * b - a
        twice = Atoms(symbols, scaled_positions=sites, cell=vectors, pbc=True).repeat((2, 2, 1))
        new = np.array([a, second, c])
        f = twice.positions @ np.linalg.inv(new)
        f -= np.floor(f + 1e-6)
        _, keep = np.unique(np.round(f, 5), axis=0, return_index=True)
        keep = np.sort(keep)
        vectors, sites, symbols = new, f[keep], [twice.get_chemical_symbols()[k] for k in keep]
        if len(sites) != 2 * len(kinds):
            raise CrystalError(f"the hexagonal cell of {name} could not be doubled; give its orthohexagonal cell")
    order = sorted(range(len(symbols)), key=lambda k: (symbols[k], *np.round(sites[k] % 1.0, 6)))
    return Host.of_cell(name, tuple(symbols[k] for k in order), vectors, np.asarray(sites)[order])
