"""Labelled cells: rattled, strained, with vacancies, from classical potentials in LAMMPS."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from peers import lammps_potentials
from zhou import Table

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """A host, its reference potential and how its cells are drawn.

    `a`, `r0` (nearest neighbours), `cutoff` and `rattle` (range of standard deviations) in Å; `strain` the largest
    component; `switch` the range of distances (Å) between equal species in which the potential is switched off.
    """

    title: str
    species: tuple[str, ...]
    structure: str
    a: float
    r0: float
    cutoff: float
    small: tuple[int, int, int]
    large: tuple[int, int, int]
    commands: tuple[str, str]
    rattle: tuple[float, float] = (0.01, 0.08)
    strain: float = 0.02
    switch: tuple[float, float] = (0.0, 0.0)

    def host(self, repeats: tuple[int, int, int]) -> Atoms:
        """The perfect supercell."""
        return bulk("".join(self.species), self.structure, a=self.a, cubic=True).repeat(repeats)

    def cells(self, count: int, seed: int) -> list[Atoms]:
        """Small and large cells in turn, every second pair of them with a vacancy, four in 36 with two."""
        rng = np.random.default_rng(seed)
        found = []
        for k in range(count):
            atoms = self.host(self.large if k % 2 else self.small)
            ordinal = 2 * (k // 4) + k % 4 - 2  # among the cells with vacancies
            vacancies = 0 if k % 4 < 2 else 2 if ordinal % 9 in (1, 5) else 1
            for _ in range(vacancies):
                del atoms[int(rng.integers(len(atoms)))]
            strain = rng.uniform(-self.strain, self.strain, (3, 3))
            atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
            atoms.positions += rng.normal(scale=rng.uniform(*self.rattle), size=atoms.positions.shape)
            found.append(atoms)
        return found

    def switched(self, cells: list[Atoms]) -> int:
        """Pairs of the first species inside the switch."""
        total = 0
        for atoms in cells:
            own = atoms[[a.index for a in atoms if a.symbol == self.species[0]]]
            d = own.get_all_distances(mic=True)
            total += int(np.sum((d > self.switch[0]) & (d < self.switch[1]))) // 2
        return total


_CARBIDE = Material(
    title="SiC, Tersoff (Erhart-Albe)",
    species=("Si", "C"),
    structure="zincblende",
    a=4.359,
    r0=1.888,
    cutoff=4.0,
    small=(2, 2, 2),
    large=(3, 2, 2),
    commands=("pair_style tersoff", "pair_coeff * * {folder}/SiC_Erhart-Albe.tersoff Si C"),
    rattle=(0.005, 0.02),
    strain=0.005,
    switch=(2.68, 2.96),
)

_TUNGSTEN = Material(
    title="W, EAM (Zhou)",
    species=("W",),
    structure="bcc",
    a=3.165,
    r0=2.74,
    cutoff=5.0,
    small=(3, 3, 3),
    large=(4, 4, 4),
    commands=("pair_style eam/alloy", "pair_coeff * * {folder}/W_zhou.eam.alloy W"),
)

MATERIALS = {
    "W": _TUNGSTEN,
    "W mended": replace(
        _TUNGSTEN,
        title="W, the same cells and potential, the step in its table mended",
        commands=("pair_style eam/alloy", "pair_coeff * * {mended} W"),
    ),
    "Si": Material(
        title="Si, Stillinger-Weber",
        species=("Si",),
        structure="diamond",
        a=5.431,
        r0=2.352,
        cutoff=4.94,
        small=(2, 2, 2),
        large=(3, 2, 2),
        commands=("pair_style sw", "pair_coeff * * {folder}/Si.sw Si"),
    ),
    "SiC": _CARBIDE,
    "SiC hot": replace(
        _CARBIDE, title="SiC, the same potential, rattled as W and Si", rattle=(0.01, 0.08), strain=0.02
    ),
}


@dataclass(frozen=True)
class Label:
    """A cell with its energy (eV), forces (N, 3) in eV/Å and virial (6,), eV, -dE/d strain."""

    atoms: Atoms
    energy: float
    forces: Array
    virial: Array


def labelled(material: Material, count: int, seed: int) -> list[Label]:
    """`count` cells of `material` with LAMMPS's energy, forces and virial."""
    with tempfile.TemporaryDirectory() as scratch:
        mended = Path(scratch) / "W_mended.eam.alloy"
        Table.read().write_mended(mended)
        commands = [c.format(folder=lammps_potentials(), mended=mended) for c in material.commands]
        return [label(material, commands, atoms) for atoms in material.cells(count, seed)]


def label(material: Material, commands: list[str], atoms: Atoms) -> Label:
    """One cell's label."""
    from ase.calculators.lammpslib import LAMMPSlib

    work = atoms.copy()
    work.calc = LAMMPSlib(
        lmpcmds=commands,
        atom_types={s: 1 + k for k, s in enumerate(material.species)},
        lammps_header=["units metal", "atom_style atomic", "atom_modify map array sort 0 0"],
        keep_alive=False,
        log_file=None,
    )
    energy, forces = float(work.get_potential_energy()), np.array(work.get_forces())
    return Label(atoms, energy, forces, -work.get_stress() * work.get_volume())
