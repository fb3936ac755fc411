"""The surrogate as an ASE calculator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from farfield.service.surrogate.model import Evaluator, Surrogate

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["SurrogateCalculator"]


class SurrogateCalculator(Calculator):
    """ASE calculator of a fitted surrogate, or of the file that holds one::

        atoms.calc = SurrogateCalculator("surrogate.ff")

    Gives energy, site energies, forces and, for cells with a volume, stress. Neighbour lists last within `skin` (Å).
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(self, surrogate: Surrogate | str | os.PathLike[str], skin: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.surrogate = surrogate if isinstance(surrogate, Surrogate) else Surrogate.load(surrogate)
        self.skin = skin
        self._evaluator: Evaluator | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fills `results`; eV, eV/Å, eV/Å^3. Raises BasisError for atoms the basis cannot describe."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        assert self.atoms is not None
        cell = np.asarray(self.atoms.cell)
        if self._evaluator is None or set(system_changes) & {"numbers", "cell", "pbc"}:
            symbols = self.atoms.get_chemical_symbols()
            self._evaluator = self.surrogate.evaluator(symbols, cell, self.atoms.pbc, self.skin)
        energy, forces, virial = self._evaluator(self.atoms.positions)
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": self._evaluator.site_energies,
            "forces": forces,
        }
        volume = abs(np.linalg.det(cell))
        if volume > 0:
            self.results["stress"] = -virial / volume
