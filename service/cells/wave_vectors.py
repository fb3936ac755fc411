"""The wave vectors of a supercell, as a group, and what the crystal's symmetry makes of them.

A wave vector q is given in reciprocal units of the conventional cell: its phase at the fractional position f is
exp(2 pi i q.f). Those of the supercell (n1, n2, n3) modulo the primitive reciprocal lattice form a finite group; each
of its subgroups is the set of wave vectors of one smaller supercell, of whatever shape (Lloyd-Williams and Monserrat
2015). With phases taken at the positions themselves, force constants in Fourier space obey
D_{Rq}(g s, g s0) = R D_q(s, s0) R^T for every operation g of the space group, and D_{-q} is the conjugate of D_q.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.host import Host
from farfield.service.cells.ladder import Size
from farfield.service.cells.strains import sublattices
from farfield.service.cells.symmetry import space_group

__all__ = ["PointOperation", "WaveVectors", "wave_vectors"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

DIGITS = 1e6
"""Phases are told apart to this many parts of a turn."""


@dataclass(frozen=True)
class PointOperation:
    """f -> W f + w of the space group, one for each rotation.

    `fractional` W (3, 3) and `rotation` (3, 3), the same in Cartesian coordinates; `site` (n,): sublattice s goes to
    sublattice site[s]; `wave` (n_q,): wave vector q goes to wave[q] (modulo the reciprocal lattice).
    """

    fractional: Array
    rotation: Array
    site: Indices
    wave: Indices


class WaveVectors:
    """The wave vectors `q` (n_q, 3) of the supercell `size` of `host`.

    `translations` (m, 3): the lattice translations inside the conventional cell, fractional; `sites` (n, 3): fractional
    position of one site of each sublattice of the primitive cell, `sublattice` (n_b,) which one each site of the
    conventional cell belongs to. Raises CrystalError where the symmetry cannot be found.
    """

    def __init__(self, host: Host, size: Size) -> None:
        self.host, self.size = host, size
        self._space_group = space_group(host)
        still = [t for W, t in self._space_group if (np.eye(3) == W).all()]
        self.translations: Array = np.array(sorted(still, key=lambda t: np.round(t, 6).tolist()))
        self.sublattice: Indices = np.array(sublattices(host))
        self.first: Indices = np.unique(self.sublattice, return_index=True)[1].astype(np.int64)
        self.sites: Array = host.basis[self.first]
        self.q, self._number = self._enumerate()

    def __len__(self) -> int:
        return len(self.q)

    def keys(self, q: Array) -> Array:
        """A row of integers for each q (m, 3), equal where wave vectors are the same."""
        phases = np.concatenate([q, q @ self.translations.T], axis=1)
        return np.asarray(np.rint(np.mod(phases, 1.0) * DIGITS).astype(np.int64) % int(DIGITS), np.int64)

    def _enumerate(self) -> tuple[Array, dict[bytes, int]]:
        m = len(self.translations)
        axes = [np.arange(n * m) / n for n in self.size]
        every = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        number: dict[bytes, int] = {}
        chosen: list[Array] = []
        for key, q in zip(self.keys(every), every, strict=True):
            if (name := key.tobytes()) not in number:
                number[name] = len(chosen)
                chosen.append(q)
        if len(chosen) != m * int(np.prod(self.size)):
            raise CrystalError("the host's translations do not fit its cell; give its conventional or primitive cell")
        return np.array(chosen), number

    def find(self, q: Array) -> Indices:
        """Which wave vector of the list each of q (m, 3) is."""
        return np.array([self._number[key.tobytes()] for key in self.keys(q)], np.int64)

    @cached_property
    def sums(self) -> Indices:
        """(n_q, n_q): the number of q + q'."""
        n = len(self.q)
        return self.find((self.q[:, None] + self.q[None]).reshape(-1, 3)).reshape(n, n)

    @cached_property
    def negative(self) -> Indices:
        """(n_q,): the number of -q."""
        return self.find(-self.q)

    @cached_property
    def operations(self) -> list[PointOperation]:
        """One operation for each rotation that keeps the supercell's lattice."""
        n, to_cart = np.array(self.size), self.host.cell.T
        out, seen = [], set[bytes]()
        for W, w in self._space_group:
            name = np.asarray(W, np.int64).tobytes()
            if name in seen or ((W * n[None, :]) % n[:, None]).any():
                continue
            seen.add(name)
            moved = self.sites @ W.T + w
            site = self.sublattice[self._nearest_site(moved)]
            rotation = to_cart @ W @ np.linalg.inv(to_cart)
            wave = self.find(self.q @ np.linalg.inv(W))
            out.append(PointOperation(np.asarray(W, float), np.asarray(rotation, float), site, wave))
        return out

    def _nearest_site(self, fractions: Array) -> Indices:
        off = fractions[:, None] - self.host.basis[None]
        off = np.abs(off - np.rint(off)).max(axis=2)
        if off.min(axis=1).max() > 1e-4:
            raise CrystalError("a symmetry operation does not map the host's sites on each other")
        return np.asarray(off.argmin(axis=1), np.int64)

    @cached_property
    def stars(self) -> Indices:
        """(n_q,): the number of the star of each q; stars join q, its images and -q."""
        out = np.full(len(self.q), -1)
        for q in range(len(self.q)):
            if out[q] < 0:
                images = np.array([g.wave[q] for g in self.operations])
                out[np.concatenate([images, self.negative[images]])] = out.max() + 1
        return np.asarray(out, np.int64)

    def group(self, *generators: int) -> tuple[int, ...]:
        """The subgroup that wave vectors generate, sorted."""
        zero = int(self.find(np.zeros((1, 3)))[0])
        out = {zero}
        for g in generators:
            multiples, q = [zero], int(g)
            while q != zero:
                multiples.append(q)
                q = int(self.sums[q, g])
            out = {int(self.sums[a, b]) for a in out for b in multiples}
        return tuple(sorted(out))


@lru_cache(maxsize=16)
def wave_vectors(host: Host, size: Size) -> WaveVectors:
    """The same, kept."""
    return WaveVectors(host, size)
