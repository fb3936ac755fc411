from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from farfield.errors import CrystalError
from farfield.service.cells import Defect, DefectCell, Host, free_parameters, half_width
from farfield.service.cells.crystal import conventional
from farfield.service.cells.images import minimum_image
from farfield.service.cells.ladder import even_cell, heights
from farfield.service.cells.stencils import bond_cutoff, connects
from farfield.service.cells.symmetry import operations

RNG = np.random.default_rng(3)
RUTILE = Atoms(
    "Ti2O4",
    scaled_positions=[
        (0, 0, 0),
        (0.5, 0.5, 0.5),
        (0.305, 0.305, 0),
        (0.695, 0.695, 0),
        (0.195, 0.805, 0.5),
        (0.805, 0.195, 0.5),
    ],
    cell=[4.59, 4.59, 2.96],
    pbc=True,
)


@pytest.mark.parametrize(
    ("atoms", "named"),
    [
        (bulk("Cu", "fcc", 3.6), Host.named("fcc", ["Cu"], 3.6)),
        (bulk("W", "bcc", 3.2), Host.named("bcc", ["W"], 3.2)),
        (bulk("Mg", "hcp", 3.2, c=5.1), Host.named("hcp", ["Mg"], 3.2, 5.1 / 3.2)),
    ],
)
def test_a_primitive_cell_is_the_named_crystal(atoms: Atoms, named: Host) -> None:
    """Same neighbours at every distance, same symmetry, same free parameters."""
    host = conventional(atoms, "file")
    assert (host.nb, host.nearest, host.volume) == pytest.approx((named.nb, named.nearest, named.volume))
    for n in ((1, 1, 1), (2, 1, 2)):
        mine, theirs = (np.sort(h.atoms(n).get_all_distances(mic=True).ravel()) for h in (host, named))
        assert np.allclose(mine, theirs, atol=1e-6)
    assert len(operations(host, (1, 1, 1))) == len(operations(named, (1, 1, 1)))
    assert [p.name for p in free_parameters(host)] == [p.name for p in free_parameters(named)]


def test_a_turned_cell_stays_as_it_is_turned() -> None:
    atoms = bulk("Cu", "fcc", 3.6)
    atoms.rotate(30, (1, 2, 3), rotate_cell=True)
    host = conventional(atoms, "file")
    assert np.allclose(host.cell @ host.cell.T, 3.6**2 * np.eye(3), atol=1e-5)
    inside = atoms.cell.array @ np.linalg.inv(host.cell)  # the primitive vectors are differences of sites
    assert np.allclose(2 * inside, np.rint(2 * inside), atol=1e-5)


@pytest.mark.parametrize(
    ("atoms", "names"),
    [
        (bulk("Cu", "fcc", 3.6), ["size"]),
        (bulk("Si", "diamond", 5.4), ["size"]),
        (bulk("Mg", "hcp", 3.2, c=5.1), ["size", "shape"]),
        (bulk("ZnO", "wurtzite", a=3.25, c=5.2), ["size", "shape", "sites"]),
        (RUTILE, ["size", "shape", "sites"]),
    ],
)
def test_free_parameters_keep_the_space_group(atoms: Atoms, names: list[str]) -> None:
    host = conventional(atoms, "file")
    group = len(operations(host, (1, 1, 1)))
    free = free_parameters(host)
    assert [p.name for p in free] == names
    for p in free:
        moved = p.deform(host, 0.02)
        assert len(operations(moved, (1, 1, 1))) == group
        if p.name == "shape":
            assert moved.volume == pytest.approx(host.volume, rel=2e-3)
        if p.name == "sites":
            assert np.array_equal(moved.cell, host.cell)
            assert np.abs(moved.basis - host.basis).max() > 1e-3


def test_the_bonds_of_the_norm_connect_every_crystal() -> None:
    for atoms in (bulk("Cu"), bulk("W"), bulk("Si"), bulk("Mg"), bulk("ZnO", "wurtzite", a=3.25, c=5.2), RUTILE):
        host = conventional(atoms, "file")
        assert bond_cutoff(host.cell, host.basis) < 2.2 * host.nearest
        i, j, shift = host.bonds((1, 1, 1))
        S = np.rint(shift @ np.linalg.inv(host.cell)).astype(np.int64)
        assert connects(i, j, S, host.cell, host.basis)
        inner = np.linalg.norm((host.basis[j] + S - host.basis[i]) @ host.cell, axis=1)
        nearest = inner < 0.99 * inner.max()  # without the last shell something is missing
        if nearest.any() and host.nb < 8:
            assert not connects(i[nearest], j[nearest], S[nearest], host.cell, host.basis)


def test_bonds_within_a_sublattice_do_not_connect() -> None:
    cubic = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])  # two simple cubic lattices, each bound to itself
    i = np.repeat([0, 1], 3)
    S = np.vstack([np.eye(3, dtype=np.int64)] * 2)
    assert not connects(i, i, S, np.eye(3), cubic)
    twice = 2 * np.eye(3, dtype=np.int64)  # every second cell of one lattice
    zero = np.zeros(3, np.int64)
    assert not connects(zero, zero, twice, np.eye(3), cubic[:1])
    assert connects(zero, zero, np.eye(3, dtype=np.int64), np.eye(3), cubic[:1])


SKEW = np.array([[3.0, 0, 0], [0.9, 2.9, 0], [-1.1, 0.8, 3.1]])


@pytest.mark.parametrize("cell", [np.diag([2.0, 3.0, 5.0]), SKEW, np.array([[3, 0, 0], [1.5, 2.6, 0], [0, 0, 5.0]])])
def test_minimum_images_are_shortest(cell: np.ndarray) -> None:
    x = RNG.uniform(-2, 2, (300, 3)) @ cell
    shifts = np.array(list(product(range(-4, 5), repeat=3))) @ cell
    exact = np.linalg.norm(x[:, None] + shifts, axis=2).min(axis=1)
    found = minimum_image(x, cell)
    assert np.allclose(np.linalg.norm(found, axis=1), exact)
    f = (found - x) @ np.linalg.inv(cell)
    assert np.allclose(f, np.rint(f), atol=1e-9)


def test_cells_of_a_skew_host_map_one_to_one() -> None:
    host = Host.of_cell("skew", ("W",), 3.2 * np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0.5]]), np.zeros((1, 3)))
    assert host.nearest == pytest.approx(3.2 * 0.75**0.5)
    defect = Defect(removed=(0,))
    large = DefectCell(host, defect, (6, 6, 8))
    for size in ((3, 3, 4), (4, 4, 6), (4, 5, 6)):
        cell = DefectCell(host, defect, size)
        index = cell.map_to(large)
        assert len(set(index.tolist())) == cell.natoms
        inner = cell.radius < half_width(host, size) - 0.1
        assert np.allclose(cell.radius[inner], large.radius[index][inner])
        assert np.linalg.norm(minimum_image(cell.x0 - cell.x0[0], cell.cell), axis=1).max() <= 2 * cell.radius.max()


def test_an_even_target_cell() -> None:
    assert even_cell(Host.named("fcc", ["Cu"], 3.6), 5) == (5, 5, 5)
    host = Host.named("hcp", ["Mg"], 3.2)
    size = even_cell(host, 5)
    assert heights(host, size).min() >= 5 * host.volume ** (1 / 3)
    assert all(heights(host, (size[0] - (k == 0), size[1] - (k == 1), size[2] - (k == 2))).min()
               < 5 * host.volume ** (1 / 3) for k in range(3))  # fmt: skip


def test_sites_that_coincide() -> None:
    with pytest.raises(CrystalError, match=r"nearer than 0\.5"):
        Host.of_cell("twice", ("Cu", "Cu"), 3.6 * np.eye(3), np.array([[0, 0, 0], [0.05, 0, 0]]))
