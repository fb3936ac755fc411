from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from farfield.service.surrogate import Basis


def _shaken(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
    return atoms


@pytest.fixture
def copper() -> tuple[Basis, Atoms]:
    """31 atoms around a vacancy; the cutoff reaches over the half cell, so neighbours repeat as images."""
    atoms = bulk("Cu", a=3.6, cubic=True) * (2, 2, 2)
    del atoms[0]
    return Basis(("Cu",), 5.2, 2.55, (5, 8, 8)), _shaken(atoms, 1)


@pytest.fixture
def carbide() -> tuple[Basis, Atoms]:
    """Two species, 15 atoms, cell as long as the cutoff."""
    atoms = bulk("SiC", "zincblende", 4.36, cubic=True) * (2, 1, 1)
    del atoms[3]
    return Basis(("C", "Si"), 4.4, 1.89, (4, 6, 7)), _shaken(atoms, 2)


@pytest.fixture
def antisite() -> tuple[Basis, Atoms]:
    """Two species with a distance for each pair; one carbon on a silicon site."""
    atoms = bulk("SiC", "zincblende", 4.36, cubic=True) * (2, 1, 1)
    atoms.symbols[2] = "C"
    return Basis(("C", "Si"), 4.4, ((1.55, 1.89), (1.89, 2.23)), (4, 6, 7)), _shaken(atoms, 3)


@pytest.fixture
def crushed() -> tuple[Basis, Atoms]:
    """Silicon carbide of a quarter of the volume, so that many pairs of every kind are inside the core."""
    atoms = bulk("SiC", "zincblende", 2.7, cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=5)
    return Basis(("C", "Si"), 4.4, ((1.6, 1.9), (1.9, 2.9)), (3, 5, 6)), atoms


@pytest.fixture(params=["copper", "carbide", "antisite", "crushed"])
def system(request: pytest.FixtureRequest) -> tuple[Basis, Atoms]:
    """Each of the systems."""
    found: tuple[Basis, Atoms] = request.getfixturevalue(request.param)
    return found
