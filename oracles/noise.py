"""Numerical noise: how far an oracle's answers to one and the same crystal lie apart (decisions C10).

A program on a grid does not see that a crystal was moved by a fraction of a grid spacing, or that its atoms were listed
in another order, and stops its self-consistency somewhere else. What that changes is the noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Noise", "equal_cells", "measured"]

Array = NDArray[np.float64]

SHIFTS = ((0.0128, 0.0588, 0.0294), (0.0064, 0.0459, 0.0235))
"""Of the cell. On no grid of 12 to 72 points do two of the three positions come within 0.05 of a spacing."""


@dataclass(frozen=True)
class Noise:
    """Standard deviation of one value about its mean over equal cells; all zero for an analytic oracle.

    `energy` eV per atom of the cell that was measured; `force` eV/Å, of one component; `virial` eV per atom, of one
    component. None: the oracle does not answer that kind. Measured on few atoms: the energy of a larger cell of N atoms
    has at most N times `energy` (errors that add up, as of a self-consistency stopped early), and `force` holds for
    every atom of any cell.
    """

    energy: float
    force: float
    virial: float | None = None

    @property
    def none(self) -> bool:
        """Whether the oracle has no noise at all."""
        return not (self.energy or self.force or self.virial)

    def __str__(self) -> str:
        text = f"sigma_E {self.energy:.2g} eV/atom, sigma_F {self.force:.2g} eV/Å"
        return text if self.virial is None else f"{text}, sigma_V {self.virial:.2g} eV/atom"

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Noise:
        """The inverse of `to_json`."""
        return cls(data["energy"], data["force"], data["virial"])


def equal_cells(atoms: Atoms) -> list[tuple[Atoms, list[int]]]:
    """Two translations by unequal fractions of the cell and one other order of the atoms, each with its order:
    atom k of the new cell is atom `order[k]` of `atoms`."""
    same = list(range(len(atoms)))
    out = []
    for shift in SHIFTS:
        moved = atoms.copy()
        moved.positions += np.array(shift) @ atoms.cell.array
        out.append((moved, same))
    return [*out, (atoms[same[::-1]], same[::-1])]


def measured(natoms: int, answers: Sequence[Mapping[str, Any]]) -> Noise:
    """The noise from the answers to equal cells, at least two: mappings from kind (E, F, V) to value, forces in one
    order of the atoms.

    The variance between answers, which is the mean of (x_i - x_j)^2 / 2 over all pairs, averaged over components. The
    mean force of each answer is taken out, because some programs do so themselves, and N / (N - 1) makes up for it.
    Four answers for N atoms leave 3 degrees of freedom for E, 9 (N - 1) for F, 18 for V: relative standard errors of
    0.4, 0.14 (N = 4) and 0.17. A kind that fewer than two answered is None. Raises ValueError where that is E or F.
    """

    def sigma(values: list[Array]) -> float | None:
        return float(np.sqrt(np.var(values, axis=0, ddof=1).mean())) if len(values) > 1 else None

    E, F, V = ([np.asarray(a[k], float) for a in answers if a.get(k) is not None] for k in "EFV")
    force = sigma([f - f.mean(axis=0) for f in F])
    energy, virial = sigma(E), sigma(V)
    if energy is None or force is None:
        raise ValueError("noise needs energies and forces of two equal cells")
    if natoms > 1:
        force *= float(np.sqrt(natoms / (natoms - 1)))
    return Noise(energy / natoms, force, None if virial is None else virial / natoms)
