"""Labels on `Atoms` as ASE knows them."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from farfield.db.identity import structure_atoms

__all__ = ["StoredLabels"]


class StoredLabels(SinglePointCalculator):
    """A single-point calculator whose atoms of reference are made when somebody asks for a label.

    ASE's own copies them at once, which takes longer than to read them. `data`: bytes of the structure (`db.identity`);
    `results`: labels by ASE's names.
    """

    def __init__(self, data: bytes, results: dict[str, Any]) -> None:
        self._data = data
        self._reference: Atoms | None = None
        Calculator.__init__(self)
        self.results = results

    @property
    def atoms(self) -> Atoms:
        """The structure that the labels are of."""
        if self._reference is None:
            self._reference = structure_atoms(self._data)
        return self._reference

    @atoms.setter
    def atoms(self, value: Atoms | None) -> None:
        self._reference = value
