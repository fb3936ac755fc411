"""A Morse crystal as a farfield oracle: energy, forces and virial of a pair potential with a smooth cut-off."""

import numpy as np
from ase.neighborlist import neighbor_list

from farfield.oracles.observation import VOIGT, Observations


class MorseOracle:
    """E = 1/2 sum of depth ((1 - exp(-b (r - r0)))^2 - 1) (1 - (r / cutoff)^2)^4; eV and Å."""

    name, supports, mesh, analytic = "morse", frozenset({"E", "F", "V"}), "none", True

    def __init__(self, depth: float = 0.35, b: float = 1.4, r0: float = 2.55, cutoff: float = 5.2) -> None:
        self.depth, self.b, self.r0, self.cutoff = depth, b, r0, cutoff

    def fingerprint(self):
        return {"adapter": "morse", "physics": 1, **vars(self)}  # everything that changes an answer

    def cost(self, natoms):
        return 1e-4 * natoms

    def evaluate(self, atoms, kinds):
        i, r, D = neighbor_list("idD", atoms, self.cutoff)
        x, s = np.exp(-self.b * (r - self.r0)), 1 - (r / self.cutoff) ** 2
        e, de = self.depth * ((1 - x) ** 2 - 1), 2 * self.depth * self.b * x * (1 - x)
        pull = ((de * s**4 - 8 * e * s**3 * r / self.cutoff**2) / r)[:, None] * D  # dE/dr of each pair, along it
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, pull)
        virial = -0.5 * np.einsum("pa,pb->ab", pull, D)  # V = -dE/d(strain), total, eV
        values = {"E": 0.5 * float((e * s**4).sum()), "F": forces, "V": np.array([virial[a, b] for a, b in VOIGT])}
        return Observations({kind: values[kind] for kind in kinds})
