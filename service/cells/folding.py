"""Supercells and their k-point meshes: a supercell's mesh, folded into the conventional cell (decisions C2)."""

from __future__ import annotations

from collections.abc import Callable

from ase import Atoms

from farfield.oracles.mesh import KEY, Mesh
from farfield.service.cells.host import Host
from farfield.service.cells.ladder import Size

__all__ = ["folded_cell"]


def folded_cell(host: Host, size: Size, mesh_of: Callable[[Atoms], Mesh]) -> Atoms:
    """The conventional cell that equals the perfect supercell of `size`: its mesh is (n_i m_i), Gamma-centred.

    `mesh_of` gives the mesh (m1, m2, m3) of the supercell. By Bloch's theorem the energy per cell is the same.
    """
    mesh = mesh_of(host.atoms(size))
    atoms = host.atoms()
    atoms.info[KEY] = (size[0] * mesh[0], size[1] * mesh[1], size[2] * mesh[2])
    return atoms
