from __future__ import annotations

import numpy as np
import pytest

from farfield.service.cells import Host, Size
from farfield.service.cells.wave_vectors import WaveVectors

CRYSTALS = {"fcc": 1, "bcc": 1, "diamond": 2, "zincblende": 2, "hcp": 4}
"""Lattice: sublattices of the cell that repeats (hcp: of its rectangular cell)."""


def grid(lattice: str, size: Size) -> WaveVectors:
    return WaveVectors(Host.named(lattice, ["Cu", "Ag"] if lattice == "zincblende" else ["Cu"], 3.6), size)


@pytest.mark.parametrize("lattice", CRYSTALS)
def test_there_is_one_for_each_primitive_cell_and_they_are_a_group(lattice: str) -> None:
    size = (2, 1, 2) if lattice == "hcp" else (2, 2, 3)
    waves = grid(lattice, size)
    assert len(waves) * len(waves.sites) == waves.host.nb * np.prod(size)
    zero = waves.find(np.zeros((1, 3)))[0]
    assert (waves.sums == waves.sums.T).all()
    assert (waves.sums[np.arange(len(waves)), waves.negative] == zero).all()
    assert (np.sort(waves.sums, axis=1) == np.arange(len(waves))).all()  # adding q permutes them


@pytest.mark.parametrize("lattice", CRYSTALS)
def test_plane_waves_of_the_grid_are_those_that_repeat_in_the_supercell(lattice: str) -> None:
    size = (2, 1, 2) if lattice == "hcp" else (2, 2, 3)
    waves = grid(lattice, size)
    assert np.allclose(np.exp(2j * np.pi * waves.q @ np.diag(size)), 1.0)
    # and they are different: orthogonal over the lattice translations of the supercell
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1).reshape(-1, 3)
    points = (cells[:, None] + waves.translations[None]).reshape(-1, 3)
    phase = np.exp(2j * np.pi * points @ waves.q.T)
    assert np.allclose(np.conj(phase).T @ phase, len(points) * np.eye(len(waves)), atol=1e-8)


def test_stars_hold_what_symmetry_makes_alike() -> None:
    waves = grid("fcc", (2, 2, 2))
    lengths = [min(np.linalg.norm(q + g) for g in reciprocal_neighbours()) for q in waves.q]
    for s in range(waves.stars.max() + 1):
        assert np.ptp([x for x, star in zip(lengths, waves.stars, strict=True) if star == s]) < 1e-9
    assert waves.stars.max() + 1 == 6  # Gamma, L, X, W, and two on lines


def reciprocal_neighbours() -> list[np.ndarray]:
    """Reciprocal lattice vectors of fcc in conventional units: all even or all odd."""
    out = []
    for k in np.ndindex(7, 7, 7):
        g = np.array(k) - 3
        if len({int(x) % 2 for x in g}) == 1:
            out.append(g)
    return out


def test_a_group_of_one_wave_vector_is_its_multiples() -> None:
    waves = grid("bcc", (3, 3, 3))
    for q in range(len(waves)):
        group = waves.group(q)
        assert q in group
        assert len(waves) % len(group) == 0  # Lagrange
        assert {int(waves.sums[a, b]) for a in group for b in group} == set(group)


def test_a_centring_that_nobody_named_is_found() -> None:
    host = Host.of_cell("odd", ("Cu", "Cu"), 3.0 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    waves = WaveVectors(host, (2, 2, 2))  # bcc in disguise
    assert len(waves.translations) == 2
    assert len(waves.sites) == 1
    assert len(waves) == 16


def test_a_wave_vector_that_is_not_of_the_grid_is_not_found() -> None:
    with pytest.raises(KeyError):
        grid("fcc", (2, 2, 2)).find(np.array([[0.123, 0.0, 0.0]]))
