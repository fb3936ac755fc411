"""Build a defect, disturb it as files do, and find it again (decisions C14)."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from farfield.errors import CrystalError
from farfield.service.cells import Defect, DefectCell, Host
from farfield.service.cells.assignment import assign

CU = Host.named("fcc", ["Cu"], 3.6)
SIC = Host.named("zincblende", ["Si", "C"], 4.36)
MG = Host.named("hcp", ["Mg"], 3.2)


def disturbed(host: Host, defect: Defect, size: tuple[int, int, int], seed: int) -> Atoms:
    """Another lattice constant, another origin, displaced, in any order, wrapped."""
    rng = np.random.default_rng(seed)
    cell = DefectCell(host, defect, size)
    atoms = cell.atoms(cell.start(0.08, rng))
    atoms.set_cell(atoms.cell.array * 1.02, scale_atoms=True)
    atoms.positions += rng.uniform(-5, 5, 3)
    atoms = atoms[rng.permutation(len(atoms))]
    atoms.wrap()
    return atoms


def environments(host: Host, defect: Defect) -> np.ndarray:
    """Distances of all pairs of the ideal cell by species, which tell one defect from another."""
    cell = DefectCell(host, defect, (4, 4, 4))
    atoms = cell.atoms(np.zeros((cell.natoms, 3)))
    z = atoms.numbers
    d = np.round(atoms.get_all_distances(mic=True), 3)
    return np.sort((d + 100.0 * (z[:, None] * z[None])).ravel())


CASES = [
    (CU, Defect(removed=(2,)), "1 vacant, 0 extra, 0 substituted"),
    (CU, Defect(removed=(0, (1, 0, 0, 0))), "2 vacant, 0 extra, 0 substituted"),
    (CU, Defect(removed=(0,), changed=(((3, 1, 0, 0), "Al"),)), "1 vacant, 0 extra, 1 substituted"),
    (CU, Defect(added=(("Cu", (0.5, 0.5, 0.5)),)), "0 vacant, 1 extra, 0 substituted"),
    (SIC, Defect(changed=((0, "C"), ((4, 0, 0, 0), "Si"))), "0 vacant, 0 extra, 2 substituted"),
    (MG, Defect(removed=(1,)), "1 vacant, 0 extra, 0 substituted"),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("host", "defect", "said"), CASES)
def test_a_disturbed_defect_is_found_again(host: Host, defect: Defect, said: str, seed: int) -> None:
    size = (4, 3, 3) if host is MG else (3, 3, 3)
    found = assign(host, disturbed(host, defect, size, seed))
    assert str(found) == said
    assert found.size == size
    assert found.defect.excess(host) == defect.excess(host)
    mine, theirs = environments(host, found.defect), environments(host, defect)
    if defect.added:  # the extra atom stays where it was displaced to
        assert len(mine) == len(theirs)
        assert np.median(np.abs(mine - theirs)) < 1e-6
    else:
        assert np.allclose(mine, theirs, atol=2e-3)


def test_what_is_no_defect_of_the_host_is_refused() -> None:
    with pytest.raises(CrystalError, match="perfect host"):
        assign(CU, CU.atoms((3, 3, 3)))
    stretched = CU.atoms((3, 3, 3))
    stretched.set_cell(stretched.cell.array * [[1.2], [1], [1]])
    with pytest.raises(CrystalError, match="integer multiple"):
        assign(CU, stretched)
    far = CU.atoms((4, 4, 4))
    del far[[0, 168]]
    with pytest.raises(CrystalError, match="beyond"):
        assign(CU, far)


def test_parts_of_a_complex_are_checked() -> None:
    with pytest.raises(CrystalError, match="twice"):
        Defect.assembled(CU, [(0, 0, 0, 0), 0], [], [])
    with pytest.raises(CrystalError, match="not one of"):
        Defect.assembled(CU, [(4, 0, 0, 0)], [], [])
    with pytest.raises(CrystalError, match="already"):
        Defect.assembled(CU, [], [((0, 0, 0, 0), "Cu")], [])
    with pytest.raises(CrystalError, match="needs"):
        Defect.assembled(CU, [], [], [])
    assert Defect.assembled(CU, [(2, 0, 0, 0)], [], []) == Defect.named(CU, "vacancy", site=2)
