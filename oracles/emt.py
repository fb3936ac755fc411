"""ASE's effective medium theory: a fast many-body force field for Al, Ni, Cu, Pd, Ag, Pt, Au and a few more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from farfield.errors import OracleError
from farfield.oracles.observation import Observations, virial_from_stress
from farfield.oracles.oracle import MeshRule

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["EMTOracle"]


class EMTOracle:
    """Energy, forces and virial of `ase.calculators.emt.EMT`; no parameters, no mesh, no noise."""

    name = "emt"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "none"
    analytic = True

    def __init__(self) -> None:
        from ase.calculators.emt import EMT, parameters

        self._known = frozenset(parameters)
        self._calculator = EMT()

    def check_species(self, symbols: Sequence[str]) -> None:
        """Raise OracleError (input error) for elements that EMT has no parameters for."""
        unknown = sorted(set(symbols) - self._known)
        if unknown:
            raise OracleError(
                f"emt has no parameters for {', '.join(unknown)}; it knows {', '.join(sorted(self._known))}",
                failure="input error",
            )

    def fingerprint(self) -> Mapping[str, Any]:
        """ASE's release is part of it: the parameters live in ASE."""
        import ase

        return {"adapter": "emt", "physics": 1, "program": "ase", "release": ase.__version__}

    def cost(self, natoms: int) -> float:
        """About 0.4 ms per atom on one core."""
        return 4e-4 * natoms

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E (eV), F (eV/Å) and V (eV) of periodic `atoms`. Raises OracleError for an element EMT does not know."""
        self.check_species(atoms.get_chemical_symbols())
        self._calculator.reset()  # a neighbour list kept from the last cell would change the order of the sums
        work = atoms.copy()
        work.calc = self._calculator
        values: dict[str, Any] = {}
        if "E" in kinds:
            values["E"] = float(work.get_potential_energy())
        if "F" in kinds:
            values["F"] = work.get_forces(apply_constraint=False)
        if "V" in kinds:
            values["V"] = virial_from_stress(work.get_stress(apply_constraint=False), work.get_volume())
        return Observations(values)
