"""tblite's extended tight binding (GFN1-xTB, GFN2-xTB). Install: ``pip install tblite``.

Only the Gamma point: a small cell is another system than the large one of the same crystal, its energy per atom does
not compare and its virial is unphysical (Si2: -0.24 eV/Å^3). Use cells of some 15 Å, and the perfect supercell as
reference (``mesh = "fixed"``); V is left out below `smallest`, and the reason is given in `missing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles.observation import Observations, virial_from_stress
from farfield.oracles.oracle import MeshRule

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["TbliteOracle"]


class TbliteOracle:
    """Energy, forces and virial of tblite at the Gamma point.

    Parameters: `method`, "GFN1-xTB" or "GFN2-xTB"; `accuracy`, tblite's factor on its thresholds;
    `electronic_temperature` in K; `max_iterations` of the SCF; `smallest`, the height in Å of the smallest cell whose V
    is answered (0: every cell).
    """

    name = "tblite"
    install = "pip install tblite"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "fixed"
    analytic = False

    def __init__(
        self,
        method: str = "GFN1-xTB",
        accuracy: float = 0.01,
        electronic_temperature: float = 300.0,
        max_iterations: int = 250,
        smallest: float = 8.0,
    ) -> None:
        if find_spec("tblite") is None:
            raise OracleLoadError(f"oracle 'tblite' needs a package that is not installed: {self.install}")
        if method not in ("GFN1-xTB", "GFN2-xTB"):
            raise OracleLoadError(f"oracle 'tblite': method is {method!r}; use GFN1-xTB or GFN2-xTB")
        for key, value in (("accuracy", accuracy), ("electronic_temperature", electronic_temperature)):
            if not (np.isfinite(value) and value > 0):
                raise OracleLoadError(f"oracle 'tblite': {key} is {value}, not a positive number")
        self.method, self.accuracy, self.smallest = method, float(accuracy), float(smallest)
        self.temperature, self.max_iterations = float(electronic_temperature), int(max_iterations)

    @staticmethod
    def installed() -> bool:
        """Whether the program is there, as far as can be told without starting it."""
        return find_spec("tblite") is not None

    def fingerprint(self) -> Mapping[str, Any]:
        """tblite's release and the settings that change an answer; the number of iterations does not."""
        return {
            "adapter": "tblite",
            "physics": 1,
            "release": version("tblite"),
            "method": self.method,
            "accuracy": self.accuracy,
            "electronic_temperature": self.temperature,
            "mesh": "Gamma",
        }

    def cost(self, natoms: int) -> float:
        """About 0.2 s for 8 atoms; the eigenvalues of large cells grow with the cube."""
        return 0.1 + 0.01 * natoms + 2e-6 * natoms**3

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E, F and V of periodic `atoms` at the Gamma point. Raises OracleError: "not converged", "not supported"."""
        from tblite.ase import TBLite

        if atoms.has("initial_magmoms") and np.any(atoms.get_initial_magnetic_moments()):
            raise OracleError("tblite: cells with magnetic moments are not supported", failure="not supported")
        work = atoms.copy()
        work.calc = TBLite(
            method=self.method,
            accuracy=self.accuracy,
            electronic_temperature=self.temperature,
            max_iterations=self.max_iterations,
            verbosity=0,
        )
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        try:
            energy = float(work.get_potential_energy())
            if "F" in kinds:
                values["F"] = work.get_forces(apply_constraint=False)
            if "V" in kinds:
                height = float(1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0).max())
                if height >= self.smallest:
                    values["V"] = virial_from_stress(work.get_stress(apply_constraint=False), work.get_volume())
                else:
                    missing["V"] = f"not supported: the Gamma point alone gives no stress of a cell of {height:.1f} Å"
        except Exception as error:  # ASE's CalculationFailed, or tblite's own for what it refuses
            text = " ".join(str(error).split())
            if "not converged" in text or "not converge" in text:
                raise OracleError(f"tblite: {text}", failure="not converged") from error
            raise OracleError(f"tblite ({type(error).__name__}): {text}", failure="crashed") from error
        if "E" in kinds:
            values["E"] = energy
        if not values:
            raise OracleError("; ".join(missing.values()), failure="not supported")
        return Observations(values, settings={"mesh": [1, 1, 1]}, missing=missing)
