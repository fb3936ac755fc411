"""The one registry of observation kinds: name, unit, shape, sign, row scaling.

Everything that names a kind takes it from here. Conventions (decisions C1, C3):

* E   total energy, eV: the functional whose gradient F and V are.
* F   forces -dE/dx, eV/Å, (N, 3).
* V   virial -dE/d(strain) = -volume * stress, eV, total, Voigt xx yy zz yz xz xy, (6,).
* FC  one column of d2E/du2: -dF(site)/du(site0, direction), eV/Å^2, (N, 3); derived from displaced cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "VOIGT", "Kind", "Observations", "kind", "virial_from_stress"]

KindName = Literal["E", "F", "V", "FC"]

VOIGT: tuple[tuple[int, int], ...] = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Index pairs of the Voigt order xx yy zz yz xz xy."""


@dataclass(frozen=True)
class Kind:
    """One kind of observation.

    `shape` is written in N, the number of atoms; `derived` kinds are computed from other calculations and are
    never asked of an oracle; `row_scale(n)` is the fixed scaling of its rows in the fit (decisions C8).
    """

    name: str
    title: str
    unit: str
    shape: tuple[str | int, ...]
    derived: bool = False
    per_atom_rows: bool = False

    def row_scale(self, natoms: int) -> float:
        """Fixed factor on the design rows and labels of this kind: 1/N for virials, else 1."""
        return 1.0 / natoms if self.per_atom_rows else 1.0

    def shape_for(self, natoms: int) -> tuple[int, ...]:
        """The array shape for a cell of `natoms` atoms."""
        return tuple(natoms if s == "N" else int(s) for s in self.shape)


KINDS: dict[str, Kind] = {
    k.name: k
    for k in (
        Kind("E", "energy", "eV", ()),
        Kind("F", "forces", "eV/Å", ("N", 3)),
        Kind("V", "virial", "eV", (6,), per_atom_rows=True),
        Kind("FC", "force constants", "eV/Å^2", ("N", 3), derived=True),
    )
}


def kind(name: str) -> Kind:
    """The kind called `name`; raises KeyError that lists the known ones."""
    try:
        return KINDS[name]
    except KeyError:
        raise KeyError(f"unknown observation kind {name!r}; known: {', '.join(KINDS)}") from None


def virial_from_stress(stress: NDArray[np.float64], volume: float) -> NDArray[np.float64]:
    """V = -volume * stress, eV, Voigt (6,), from a (6,) Voigt or symmetric (3, 3) stress in eV/Å^3.

    Raises ValueError for another shape or a 3x3 stress that is not symmetric to 1e-6 of its largest entry.
    """
    s = np.asarray(stress, float)
    if s.shape == (3, 3):
        if np.abs(s - s.T).max() > 1e-6 * max(np.abs(s).max(), 1e-12):
            raise ValueError("the stress tensor is not symmetric; report it as xx yy zz yz xz xy")
        s = np.array([s[i, j] for i, j in VOIGT])
    if s.shape != (6,):
        raise ValueError(f"a stress has shape (6,) or (3, 3), not {s.shape}")
    return -float(volume) * s


@dataclass
class Observations:
    """What one oracle call answers: some of E, F, V for one cell.

    `values` maps the kind's name to a float (E) or array (F (N, 3), V (6,)). `energy_zero` is the sigma -> 0
    energy, stored and never fitted (C1). `moments` (N,) in Bohr magnetons. `settings` is what the oracle's rule
    gave for this cell (mesh, grid), stored with the attempt. `missing` names kinds asked for and not answered,
    with the reason. `seconds`: wall time of the call itself, filled in by the sandbox (an import is not charged).
    """

    values: dict[str, float | NDArray[np.float64]]
    converged: bool = True
    energy_zero: float | None = None
    moments: NDArray[np.float64] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds answered, in registry order."""
        return tuple(k for k in KINDS if k in self.values)
