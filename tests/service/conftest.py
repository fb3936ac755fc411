"""A pair potential that is cheap, smooth and exact to differentiate: the crystal of most tests here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from numpy.typing import NDArray
from vesin import ase_neighbor_list

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Morse:
    """E = sum over pairs of depth ((1 - exp(-b (r - r0)))^2 - 1) (1 - (r / rc)^2)^4, eV; smooth at the cut-off rc."""

    depth: float = 0.35
    b: float = 1.4
    r0: float = 2.55
    rc: float = 5.2

    def __call__(self, atoms: Atoms) -> tuple[float, Array, Array]:
        """E eV, F (N, 3) eV/Å, V (6,) eV = -dE/d(strain), Voigt xx yy zz yz xz xy."""
        i, j, D = ase_neighbor_list("ijD", atoms, self.rc)
        r = np.linalg.norm(D, axis=1)
        x = np.exp(-self.b * (r - self.r0))
        w, dw = (1 - (r / self.rc) ** 2) ** 4, -8 * r / self.rc**2 * (1 - (r / self.rc) ** 2) ** 3
        e = self.depth * ((1 - x) ** 2 - 1)
        de = self.depth * 2 * (1 - x) * self.b * x
        slope = 0.5 * (de * w + e * dw)
        pull = slope[:, None] * D / r[:, None]
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, pull)
        np.add.at(forces, j, -pull)
        full = -np.einsum("ma,mb->ab", pull, D)
        virial = np.array([full[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])
        return float(0.5 * (e * w).sum()), forces, virial


@pytest.fixture(scope="session")
def morse() -> Morse:
    return Morse()
