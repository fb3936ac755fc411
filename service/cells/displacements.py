"""Displaced cells: which are needed for all force constants of a perfect supercell, and how they assemble.

One displaced cell serves where a site operation maps +h to -h, a pair elsewhere (decisions C4). Every other column
follows from the space group: C_{Rv}[g(i)] = R C_v[i], and columns are linear in the direction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.host import Host
from farfield.service.cells.ladder import Size
from farfield.service.cells.symmetry import Mirror, Operation, operations, to_origin

__all__ = ["DisplacedCells", "Displacement", "ForceConstantCell"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Displacement:
    """Site `site` of its cell, one of the first, moved along unit vector `direction`.

    `mirror` maps +h to -h and keeps the site; None where both signs must be calculated. `group`: the wave vectors of
    the cell, where it is not the supercell itself (`nondiagonal`).
    """

    site: int
    direction: tuple[float, float, float]
    mirror: Mirror | None
    group: tuple[int, ...] = ()


class DisplacedCells(ABC):
    """The displaced cells that determine all force constants of the perfect supercell `size`, and how they assemble."""

    def __init__(self, host: Host, size: Size) -> None:
        self.host, self.size = host, size

    @property
    @abstractmethod
    def displacements(self) -> list[Displacement]:
        """The irreducible displacements, in a fixed order."""

    @abstractmethod
    def undisplaced(self, displacement: Displacement) -> Atoms:
        """The cell at rest in which `displacement` is made."""

    @abstractmethod
    def assemble(self, columns: Sequence[Array]) -> Array:
        """All force constants C (n1, n2, n3, n_b, 3, n_b, 3) in eV/Å^2 from one column per irreducible displacement.

        C[x, b, a, b0, a0] = d2E / du(x, b, a) du(0, b0, a0). Symmetry copies are averaged, and the acoustic sum rule
        is imposed on the self term.
        """

    def signs(self, displacement: Displacement) -> tuple[int, ...]:
        """(+1,) where symmetry supplies the other sign, else (+1, -1)."""
        return (1,) if displacement.mirror is not None else (1, -1)

    def displaced(self, displacement: Displacement, step: float) -> Atoms:
        """The cell with the site moved by `step` Å (signed)."""
        atoms = self.undisplaced(displacement)
        atoms.positions[displacement.site] += step * np.array(displacement.direction)
        return atoms

    def column(self, displacement: Displacement, step: float, forces: Sequence[Array]) -> Array:
        """-(F(+h) - F(-h)) / 2h over sites.

        `forces` holds one array per sign of `signs`; its trailing axes are free: (N, 3) forces give the (N, 3) column
        in eV/Å^2, and design rows (N, 3, K) give the (N, 3, K) rows that are linear in the coefficients.
        """
        plus = np.asarray(forces[0])
        if displacement.mirror is not None:
            minus = np.empty_like(plus)
            minus[displacement.mirror.image] = np.einsum("ij,nj...->ni...", displacement.mirror.rotation, plus)
        else:
            minus = np.asarray(forces[1])
        return np.asarray(-(plus - minus) / (2 * step))

    def weighted(self, displacement: Displacement, values: Array) -> Array:
        """Rows or labels of a column, scaled for a least-squares sum: as they are."""
        return values

    def from_forces(self, forces: Callable[[Atoms], Array], step: float) -> Array:
        """All force constants of a force field `forces(atoms) -> (N, 3)`, by the same displaced cells."""
        columns = []
        for d in self.displacements:
            columns.append(self.column(d, step, [forces(self.displaced(d, s * step)) for s in self.signs(d)]))
        return self.assemble(columns)


class ForceConstantCell(DisplacedCells):
    """Displacements in the supercell itself."""

    def __init__(self, host: Host, size: Size) -> None:
        super().__init__(host, size)
        self.operations = operations(host, size)
        self.natoms = host.nb * size[0] * size[1] * size[2]

    def _from_site(self, b: int) -> list[Operation]:
        """All operations, each with the image of site `b` in the origin cell."""
        return [to_origin(g, b, self.host, self.size) for g in self.operations]

    @cached_property
    def displacements(self) -> list[Displacement]:
        """The irreducible displacements, in a fixed order."""
        out, seen = [], set[int]()
        for b in range(self.host.nb):
            if b in seen:
                continue
            moves = self._from_site(b)
            group = [g for g in moves if g.image[b] == b]
            spanned = np.zeros((0, 3))
            for axis in np.eye(3):
                orbit = np.array([g.rotation @ axis for g in group])
                if np.linalg.matrix_rank(np.vstack([spanned, orbit]), tol=1e-6) == len(spanned):
                    continue
                mirror = next((g for g in group if np.allclose(g.rotation @ axis, -axis, atol=1e-8)), None)
                out.append(Displacement(b, (float(axis[0]), float(axis[1]), float(axis[2])), mirror))
                q = np.linalg.svd(np.vstack([spanned, orbit]))
                spanned = q[2][: np.linalg.matrix_rank(np.vstack([spanned, orbit]), tol=1e-6)]
                if len(spanned) == 3:
                    break
            seen |= {int(g.image[b]) for g in moves}
        return out

    def undisplaced(self, displacement: Displacement) -> Atoms:
        """The supercell, the same for every displacement."""
        return self.host.atoms(self.size)

    def assemble(self, columns: Sequence[Array]) -> Array:
        """See `DisplacedCells`."""
        n, nb, N = self.size, self.host.nb, self.natoms
        out = np.full((nb, N, 3, 3), np.nan)
        for b in sorted({d.site for d in self.displacements}):
            moves = self._from_site(b)
            group = [g for g in moves if g.image[b] == b]
            vectors, copies = [], []
            for d, column in zip(self.displacements, columns, strict=True):
                if d.site != b:
                    continue
                for g in group:
                    moved = np.empty((N, 3))
                    moved[g.image] = np.asarray(column) @ g.rotation.T
                    vectors.append(g.rotation @ np.array(d.direction))
                    copies.append(moved)
            V = np.array(vectors)
            solve = np.linalg.pinv(V)  # (3, m): C v_k = c_k in the least-squares sense
            C = np.einsum("vk,kna->nav", solve, np.array(copies))
            for g in moves:
                target = int(g.image[b])
                if np.isnan(out[target, 0, 0, 0]):
                    moved3 = np.empty((N, 3, 3))
                    moved3[g.image] = np.einsum("ij,njk,lk->nil", g.rotation, C, g.rotation)
                    out[target] = moved3
        if np.isnan(out).any():
            raise CrystalError("the displaced cells do not determine all force constants; check the host's symmetry")
        for b in range(nb):
            out[b, b] -= out[b].sum(axis=0)
        return np.ascontiguousarray(np.moveaxis(out, 0, 2).reshape(*n, nb, 3, nb, 3))
