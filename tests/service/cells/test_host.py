from __future__ import annotations

import numpy as np
import pytest

from farfield.errors import CrystalError
from farfield.service.cells import LATTICES, Host
from farfield.service.cells.prototypes import guess_lattice_constant

SPECIES = {
    "fcc": ["Cu"],
    "bcc": ["W"],
    "diamond": ["Si"],
    "zincblende": ["Si", "C"],
    "rocksalt": ["Na", "Cl"],
    "b2": ["Ni", "Al"],
}


@pytest.mark.parametrize("lattice", LATTICES)
def test_nearest_neighbours_and_stencil(lattice: str) -> None:
    host = Host.named(lattice, SPECIES[lattice], 4.0)
    atoms = host.atoms((3, 3, 3))
    d = atoms.get_all_distances(mic=True)
    assert np.isclose(d[d > 0].min(), host.nearest)
    # the stencil's s2 by brute force over one site of each basis position
    near = [d[b][(d[b] > 0) & (d[b] <= host.stencil)] for b in range(host.nb)]
    assert np.isclose(host.s2, np.mean([(x**2).sum() / 3 for x in near]))


def test_sites_are_ordered_by_cell_then_basis() -> None:
    host = Host.named("diamond", ["Si"], 5.43)
    size = (2, 3, 4)
    x = host.positions(size).reshape(*size, host.nb, 3)
    assert np.allclose(x[1, 2, 3, 5] - x[0, 0, 0, 5], [5.43, 2 * 5.43, 3 * 5.43])
    assert np.allclose(x[1, 0, 0, :] - x[1, 0, 0, 0], (host.basis - host.basis[0]) @ host.cell)


def test_guess_from_tables_and_from_radii() -> None:
    assert guess_lattice_constant("fcc", ["Cu"]) == 3.61
    assert 2.0 < guess_lattice_constant("b2", ["Ni", "Al"]) < 3.5


@pytest.mark.parametrize(
    ("lattice", "species", "says"),
    [
        ("hpc", ["Mg"], "unknown lattice"),
        ("fcc", ["Xx"], "unknown element"),
        ("rocksalt", ["Na"], "2 different species"),
        ("fcc", ["Cu", "Ni"], "1 different species"),
        ("b2", ["Ni", "Ni"], "2 different species"),
    ],
)
def test_wrong_hosts_are_refused_in_one_line(lattice: str, species: list[str], says: str) -> None:
    with pytest.raises(CrystalError, match=says) as fault:
        Host.named(lattice, species)
    assert "\n" not in str(fault.value)


def test_lattice_constant_must_be_positive() -> None:
    with pytest.raises(CrystalError, match="positive"):
        Host.named("fcc", ["Cu"], -3.6)
