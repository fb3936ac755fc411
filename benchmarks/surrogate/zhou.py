"""The tungsten table that LAMMPS ships has a step in its embedding energy; here it is measured and mended.

Zhou et al., Acta Mater. 49, 4005 (2001): the embedding energy is a cubic between 0.85 and 1.15 times
the density of the perfect crystal and another function beyond. Mended, the cubic goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peers import lammps_potentials

Array = NDArray[np.float64]

HEADER = 6  # lines of a setfl file before the embedding energies
EDGE = 42.75
"""Density at which the cubic ends: 1.15 of the perfect crystal's 37.2."""
WINDOW = (33.0, 42.7)
"""Densities from which the cubic is read."""


@dataclass(frozen=True)
class Table:
    """A setfl file: its header lines, the density grid, the embedding energies (eV), all other numbers."""

    header: list[str]
    density: Array
    embedding: Array
    rest: Array

    @classmethod
    def read(cls) -> Table:
        """LAMMPS's W_zhou.eam.alloy."""
        lines = (lammps_potentials() / "W_zhou.eam.alloy").read_text(encoding="utf-8").split("\n")
        count, spacing = lines[4].split()[:2]
        numbers = np.array(" ".join(lines[HEADER:]).split(), float)
        n = int(count)
        return cls(lines[:HEADER], float(spacing) * np.arange(n), numbers[:n], numbers[n:])

    @property
    def cubic(self) -> Array:
        """Coefficients of the cubic, highest power first."""
        inside = (self.density > WINDOW[0]) & (self.density < WINDOW[1])
        found: Array = np.polyfit(self.density[inside] - EDGE, self.embedding[inside], 3)
        return found

    def step(self) -> tuple[float, float]:
        """At the edge: jump of the embedding energy (eV) and of its slope, as a share of the slope."""
        beyond = (self.density > EDGE + 0.1) & (self.density < EDGE + 3)
        upper = np.polyfit(self.density[beyond] - EDGE, self.embedding[beyond], 3)
        lower = self.cubic
        return float(upper[-1] - lower[-1]), float(upper[-2] / lower[-2] - 1)

    def write_mended(self, path: Path) -> None:
        """The file with the cubic continued."""
        top = self.density > EDGE
        embedding = np.where(top, np.polyval(self.cubic, self.density - EDGE), self.embedding)
        numbers = "\n".join(f"{x:.17g}" for x in (*embedding, *self.rest))
        path.write_text("\n".join(self.header) + "\n" + numbers + "\n", encoding="utf-8")
