"""GPAW with plane waves. Install: ``apt install libxc-dev libopenblas-dev libopenmpi-dev``, then ``pip install gpaw
gpaw-data``. Other modes of GPAW lack the stress and are not offered; nor is spin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles.mesh import Mesh, mesh_by_spacing
from farfield.oracles.observation import Observations, virial_from_stress
from farfield.oracles.oracle import MeshRule

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["GpawOracle"]

FALLBACKS: tuple[dict[str, Any], ...] = (
    {},
    {"mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 5, "weight": 50.0}, "maxiter": 600},
)
"""Ways to the same answer, tried in turn while the SCF does not converge (decisions A3)."""


class GpawOracle:
    """Energy, forces and virial of GPAW in plane-wave mode, with one rule for the k-points of every cell.

    Parameters: `cutoff` in eV; `k_spacing` in 1/Å (2 pi included); `xc`; `width` of the Fermi-Dirac smearing in eV;
    `convergence`, GPAW's own table; `setups`, the PAW data set of each species where not GPAW's default.
    """

    name = "gpaw"
    install = "apt install libxc-dev libopenblas-dev libopenmpi-dev; pip install gpaw gpaw-data"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "settable"
    analytic = False

    def __init__(
        self,
        cutoff: float,
        k_spacing: float,
        xc: str = "PBE",
        width: float = 0.1,
        convergence: dict[str, float] | None = None,
        setups: dict[str, str] | None = None,
    ) -> None:
        if find_spec("gpaw") is None:
            raise OracleLoadError(f"oracle 'gpaw' needs a package that is not installed: {self.install}")
        for key, value in (("cutoff", cutoff), ("k_spacing", k_spacing), ("width", width)):
            if not (np.isfinite(value) and value > 0):
                raise OracleLoadError(f"oracle 'gpaw': {key} is {value}, not a positive number")
        self.cutoff, self.k_spacing, self.xc, self.width = float(cutoff), float(k_spacing), xc, float(width)
        self.convergence = {"energy": 1e-6, "density": 1e-6, "eigenstates": 1e-9, **(convergence or {})}
        self.setups = dict(setups or {})

    @staticmethod
    def installed() -> bool:
        """Whether the program is there, as far as can be told without starting it."""
        return find_spec("gpaw") is not None

    def fingerprint(self) -> Mapping[str, Any]:
        """GPAW's release, that of its data sets, and the rule of every setting, never one cell's mesh."""
        try:
            data = version("gpaw-data")
        except PackageNotFoundError:
            data = "other"
        return {
            "adapter": "gpaw",
            "physics": 1,
            "release": version("gpaw"),
            "data": data,
            "mode": "pw",
            "cutoff": self.cutoff,
            "k_spacing": self.k_spacing,
            "mesh": "Gamma-centred",
            "xc": self.xc,
            "width": self.width,
            "convergence": self.convergence,
            "setups": self.setups,
        }

    def cost(self, natoms: int) -> float:
        """A guess for a light element at a low cut-off."""
        return float(2.0 + 0.05 * natoms**2.2)

    def mesh_of(self, atoms: Atoms) -> Mesh:
        """The Gamma-centred mesh of `atoms`: its own where it carries one, else by `k_spacing`."""
        return mesh_by_spacing(atoms, self.k_spacing)

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E (the free energy), F and V of periodic `atoms`.

        Raises OracleError: "not converged" after all fallbacks, "not supported" for moments, "input error", "crashed".
        """
        from gpaw import GPAW, PW, ConvergenceError, FermiDirac, KohnShamConvergenceError

        if atoms.has("initial_magmoms") and np.any(atoms.get_initial_magnetic_moments()):
            raise OracleError("gpaw: cells with magnetic moments are not supported yet", failure="not supported")
        mesh = self.mesh_of(atoms)
        for tried, fallback in enumerate(FALLBACKS):
            work = atoms.copy()
            try:
                work.calc = GPAW(
                    mode=PW(self.cutoff),
                    xc=self.xc,
                    kpts={"size": mesh, "gamma": True},
                    occupations=FermiDirac(self.width),
                    convergence=self.convergence,
                    setups=self.setups,
                    txt=os.devnull,
                    **fallback,
                )
                zero = float(work.get_potential_energy())
                values: dict[str, Any] = {}
                if "E" in kinds:
                    values["E"] = float(work.calc.results["free_energy"])
                if "F" in kinds:
                    values["F"] = work.get_forces(apply_constraint=False)
                if "V" in kinds:
                    values["V"] = virial_from_stress(work.get_stress(apply_constraint=False), work.get_volume())
            except (ConvergenceError, KohnShamConvergenceError):
                continue
            except (FileNotFoundError, KeyError, ValueError) as error:
                text = " ".join(str(error).split())
                raise OracleError(f"gpaw refuses its input: {text}", failure="input error") from error
            settings = {"mesh": list(mesh), "fallback": tried}
            return Observations(values, energy_zero=zero, settings=settings)
        raise OracleError(f"gpaw did not converge, nor by {len(FALLBACKS) - 1} fallback", failure="not converged")
