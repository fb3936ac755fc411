"""Force constants of a supercell from smaller ones of any shape (Lloyd-Williams and Monserrat 2015; decisions C4).

A supercell (n1, n2, n3) has n1 n2 n3 n_b / n wave vectors, and each of them fits into a cell of at most a few times n
primitive cells, of whatever shape. Its force constants follow from displacements in such cells alone, one or two wave
vectors' worth at a time, at a small part of the cost of the supercell itself. `covering` says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.covering import WaveDisplacement, cover
from farfield.service.cells.displacements import DisplacedCells, Displacement, ForceConstantCell
from farfield.service.cells.host import Host
from farfield.service.cells.ladder import Size
from farfield.service.cells.symmetry import Mirror
from farfield.service.cells.wave_vectors import PointOperation, WaveVectors, wave_vectors

__all__ = ["NONDIAGONAL", "CommensurateCell", "NonDiagonalCells", "displaced_cells"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
Indices = NDArray[np.int64]

NONDIAGONAL = "nondiagonal"
"""How a displaced cell is marked that is not the supercell itself."""


class CommensurateCell:
    """The smallest supercell that has the wave vectors `group` of a grid.

    Atoms are ordered [translation, sublattice]; `offsets` (m, 3) the translations, fractional, the first of them zero.
    """

    def __init__(self, waves: WaveVectors, group: tuple[int, ...]) -> None:
        self.waves, self.group = waves, group
        host = waves.host
        grid = np.array(list(product(*(range(n) for n in waves.size))), float)
        every = (grid[:, None] + waves.translations[None]).reshape(-1, 3)
        phases = np.mod(np.round(every @ waves.q[list(group)].T, 6), 1.0)
        _, first = np.unique(np.round(phases, 5) % 1.0, axis=0, return_index=True)
        kept = sorted(first)
        self.offsets: Array = every[kept]
        if len(kept) != len(group) or np.abs(self.offsets[0]).max() > 1e-9:
            raise CrystalError("wave vectors that are no group have no supercell; report the host")
        self.vectors: Array = self._reduced(every[np.abs(phases).max(axis=1) < 1e-4]) @ host.cell

    def _reduced(self, lattice: Array) -> Array:
        """Three shortest independent vectors (fractional) of the lattice of points `lattice` modulo the big supercell;
        in three dimensions such vectors are a basis."""
        host, size = self.waves.host, np.array(self.waves.size, float)
        shifts = np.array(list(product((-2, -1, 0, 1, 2), repeat=3))) * size
        points = (lattice[:, None] + shifts[None]).reshape(-1, 3)
        length = np.linalg.norm(points @ host.cell, axis=1)
        order = np.lexsort((*(-np.round(points, 6)).T, np.round(length, 6)))
        chosen: list[Array] = []
        for k in order:
            if length[k] > 1e-6 and np.linalg.matrix_rank(np.array([*chosen, points[k]]), tol=1e-6) > len(chosen):
                chosen.append(points[k])
                if len(chosen) == 3:
                    break
        out = np.array(chosen)
        return out if np.linalg.det(out @ host.cell) > 0 else -out

    @property
    def natoms(self) -> int:
        """Atoms in the cell."""
        return len(self.offsets) * len(self.waves.sites)

    @cached_property
    def fractions(self) -> Array:
        """Positions (N, 3) in units of the conventional cell."""
        return np.asarray((self.offsets[:, None] + self.waves.sites[None]).reshape(-1, 3))

    def atoms(self) -> Atoms:
        """The undisplaced cell."""
        host = self.waves.host
        symbols = [host.symbols[b] for b in self.waves.first] * len(self.offsets)
        inside = np.mod(self.fractions @ host.cell @ np.linalg.inv(self.vectors) + 1e-9, 1.0) - 1e-9
        return Atoms(symbols, positions=inside @ self.vectors, cell=self.vectors, pbc=True)

    def mirror(self, operation: PointOperation, site: int) -> Mirror:
        """The operation on the cell's atoms that keeps the displaced atom of sublattice `site`."""
        host, f0 = self.waves.host, self.waves.sites[site]
        moved = (self.fractions - f0) @ operation.fractional.T + f0
        inverse = host.cell @ np.linalg.inv(self.vectors)
        off = (moved[:, None] - self.fractions[None]) @ inverse
        off = np.abs(off - np.rint(off)).max(axis=2)
        if off.min(axis=1).max() > 1e-4:
            raise CrystalError("a symmetry operation does not map the cell on itself")
        return Mirror(operation.rotation, np.asarray(off.argmin(axis=1), np.int64))

    def amplitudes(self, site: int, values: Array) -> Complex:
        """sum_j values_j exp(-2 pi i q.(f_j - f_0)) for every q of the group: (n_q, n, ...) from (N, ...)."""
        n = len(self.waves.sites)
        d = (self.fractions - self.waves.sites[site]).reshape(-1, n, 3)
        phase = np.exp(-2j * np.pi * np.einsum("qx,tsx->qts", self.waves.q[list(self.group)], d))
        return np.asarray(np.einsum("qts,ts...->qs...", phase, values.reshape(-1, n, *values.shape[1:])))

    def filtered(self, scale: Array, values: Array) -> Array:
        """`values` (N, ...) with the amplitude of each wave vector multiplied by `scale` (n_q,), equal for q and -q."""
        n = len(self.waves.sites)
        phase = np.exp(2j * np.pi * self.offsets @ self.waves.q[list(self.group)].T)
        kernel = ((phase * scale) @ np.conj(phase).T).real / len(self.offsets)
        out = np.einsum("tu,us...->ts...", kernel, values.reshape(-1, n, *values.shape[1:]))
        return np.asarray(out.reshape(values.shape))


@dataclass(frozen=True)
class _Images:
    """Every image of a measured amplitude under the space group and conjugation.

    `row` of the amplitude; `wave` vector and `site` of the displaced sublattice that it goes to; `rotation` (3, 3);
    `order` (n,) where each sublattice goes; `phase` (n,) of the wave vector's place in the list; `flip`: conjugated;
    `share` (3,) in the least-squares solution for D.
    """

    row: Indices
    wave: Indices
    site: Indices
    rotation: Array
    order: Indices
    phase: Complex
    flip: NDArray[np.bool_]
    share: Array


class NonDiagonalCells(DisplacedCells):
    """Displacements in small cells of any shape that hold the supercell's wave vectors between them."""

    def __init__(self, host: Host, size: Size) -> None:
        super().__init__(host, size)
        self.waves = wave_vectors(host, size)
        chosen = cover(self.waves)
        self._cells = {d.group: CommensurateCell(self.waves, d.group) for d in chosen}
        self._displacements = [self._placed(d) for d in chosen]

    def _placed(self, d: WaveDisplacement) -> Displacement:
        mirror = None if d.mirror is None else self._cells[d.group].mirror(d.mirror, d.site)
        return Displacement(d.site, d.direction, mirror, d.group)

    @property
    def displacements(self) -> list[Displacement]:
        """See `DisplacedCells`; `site` is a sublattice of the primitive cell."""
        return self._displacements

    def undisplaced(self, displacement: Displacement) -> Atoms:
        """The small cell of the displacement's wave vectors."""
        return self._cells[displacement.group].atoms()

    def weighted(self, displacement: Displacement, values: Array) -> Array:
        """Rows or labels of a column, scaled for a least-squares sum.

        Summed over all columns, the squares are those of one column of the whole supercell, averaged over directions:
        each star of wave vectors counts by its share of them, however often it was measured (Parseval).
        """
        stars = self.waves.stars[list(displacement.group)]
        scale = np.sqrt(self._share[stars] * len(displacement.group) / self._measured[stars])
        return self._cells[displacement.group].filtered(scale, values)

    @cached_property
    def _share(self) -> Array:
        """Of all wave vectors, by star."""
        counts = np.bincount(self.waves.stars).astype(float)
        return np.asarray(counts / counts.sum())

    @cached_property
    def _measured(self) -> Array:
        """How often each star was measured, for each sublattice that symmetry does not give."""
        counts = np.zeros(len(self._share))
        for d in self.displacements:
            np.add.at(counts, self.waves.stars[list(d.group)], 1.0)
        return np.asarray(counts / len({d.site for d in self.displacements}))

    def assemble(self, columns: Sequence[Array]) -> Array:
        """See `DisplacedCells`."""
        amplitudes = [
            self._cells[d.group].amplitudes(d.site, np.asarray(c))
            for d, c in zip(self.displacements, columns, strict=True)
        ]
        D = self._fourier(np.concatenate(amplitudes))
        return self._real_space(D)

    @cached_property
    def _images(self) -> _Images:
        w = self.waves
        found = []
        measured = [(d, q) for d in self.displacements for q in d.group]
        for row, (d, q) in enumerate(measured):
            for g in w.operations:
                moved = w.q[q] @ np.linalg.inv(g.fractional)
                site, direction = int(g.site[d.site]), g.rotation @ np.array(d.direction)
                for flip in (False, True):
                    image = int(w.negative[g.wave[q]] if flip else g.wave[q])
                    excess = (-moved if flip else moved) - w.q[image]
                    phase = np.exp(2j * np.pi * (w.sites - w.sites[site]) @ excess)
                    found.append((row, image, site, g.rotation, g.site, phase, flip, direction))
        rows, waves, sites, rotations, orders, phases, flips, directions = map(np.array, zip(*found, strict=True))
        share = np.zeros_like(directions)
        for q in range(len(w)):
            for s in range(len(w.sites)):
                mine = (waves == q) & (sites == s)
                if np.linalg.matrix_rank(directions[mine], tol=1e-6) < 3:
                    raise CrystalError("the displaced cells do not determine all force constants; check the symmetry")
                share[mine] = np.linalg.pinv(directions[mine]).T
        return _Images(rows, waves, sites, rotations, orders, phases, flips, share)

    def _fourier(self, amplitudes: Complex) -> Complex:
        """D (n_q, n, 3, n, 3) from the measured amplitudes (rows, n, 3), both in the order of the displacements."""
        m = self._images
        n = len(self.waves.sites)
        turned = np.einsum("hij,hsj->hsi", m.rotation, amplitudes[m.row])
        moved = np.empty_like(turned)
        np.put_along_axis(moved, m.order[:, :, None], turned, axis=1)
        moved = np.where(m.flip[:, None, None], np.conj(moved), moved) * m.phase[:, :, None]
        D = np.zeros((len(self.waves), n, n, 3, 3), complex)  # [q, s0, s, i, j]
        np.add.at(D, (m.wave, m.site), moved[..., None] * m.share[:, None, None, :])
        return np.asarray(np.transpose(D, (0, 2, 3, 1, 4)))

    def _real_space(self, D: Complex) -> Array:
        w, host, size = self.waves, self.host, self.size
        f = host.site_fractions(size)
        kind = np.tile(w.sublattice, len(f) // host.nb)
        out = np.empty((len(f), 3, host.nb, 3))
        for b0 in range(host.nb):
            wave = np.exp(2j * np.pi * (f - host.basis[b0]) @ w.q.T) / len(w)
            s0 = w.sublattice[b0]
            for s in range(len(w.sites)):
                mine = kind == s
                out[mine, :, b0] = np.tensordot(wave[mine], D[:, s, :, s0], axes=1).real
        for b in range(host.nb):
            out[b, :, b] -= out[:, :, b].sum(axis=0)
        return np.ascontiguousarray(out.reshape(*size, host.nb, 3, host.nb, 3))


@lru_cache(maxsize=16)
def displaced_cells(host: Host, size: Size, *, nondiagonal: bool) -> DisplacedCells:
    """The displaced cells for the force constants of the supercell `size`: small ones, or in the supercell itself.

    Kept, as the choice takes a moment.
    """
    return NonDiagonalCells(host, size) if nondiagonal else ForceConstantCell(host, size)
