"""The k-point mesh of a cell: one rule for all cells, or the explicit mesh that a cell carries (decisions C2).

A cell's own mesh is ``atoms.info["mesh"] = (m1, m2, m3)``; it is part of the structure's identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from farfield.errors import OracleError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["KEY", "Mesh", "explicit_mesh", "mesh_by_spacing"]

Mesh = tuple[int, int, int]
KEY = "mesh"
SLACK = 1e-6
"""A spacing met to this relative size counts as met, so that the mesh does not hang on a cell's last bits."""


def explicit_mesh(atoms: Atoms) -> Mesh | None:
    """The mesh that `atoms` carries, None where it carries none. Raises OracleError for what is no mesh."""
    mesh = atoms.info.get(KEY)
    if mesh is None:
        return None
    numbers = np.asarray(mesh)
    if numbers.shape != (3,) or numbers.dtype.kind not in "iu" or (numbers < 1).any() or (numbers > 1000).any():
        raise OracleError(f"atoms.info['mesh'] is {mesh!r}; give three positive integers", failure="input error")
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def mesh_by_spacing(atoms: Atoms, spacing: float) -> Mesh:
    """The Gamma-centred mesh of `atoms`: the one it carries, else the smallest whose points are at most `spacing`
    (1/Å, with the factor 2 pi) apart along each reciprocal vector."""
    own = explicit_mesh(atoms)
    if own is not None:
        return own
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    m = np.maximum(1, np.ceil(lengths / spacing * (1 - SLACK))).astype(int)
    return int(m[0]), int(m[1]), int(m[2])
