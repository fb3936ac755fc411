"""The host: phonons and elastic constants of oracle and surrogate, from what the campaign bought."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units
from matplotlib.figure import Figure
from numpy.typing import NDArray

from farfield.service.cells import DisplacedCells
from farfield.service.estimates import elastic_constants
from farfield.service.report.data import CampaignData
from farfield.service.report.phonons import band_path, commensurate, frequencies
from farfield.service.report.style import COLORS, INK, axes, empty, styled
from farfield.service.surrogate import Surrogate

__all__ = ["Elastic", "elastic", "phonons", "surrogate_constants"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Elastic:
    """C11, C12, C44 and the bulk modulus (C11 + 2 C12) / 3 in GPa at clamped ions, at the lattice constant in use.

    `pressure` is the residual -trace(stress) / 3 in GPa there, None where no virial of the perfect cell is known.
    """

    c11: float
    c12: float
    c44: float
    pressure: float | None

    @property
    def bulk(self) -> float:
        """Bulk modulus, GPa."""
        return (self.c11 + 2 * self.c12) / 3

    @property
    def anisotropy(self) -> float:
        """Zener's ratio 2 C44 / (C11 - C12), 1 for an isotropic solid."""
        return 2 * self.c44 / (self.c11 - self.c12)


def elastic(data: CampaignData) -> tuple[Elastic, Elastic] | None:
    """Oracle and surrogate from the strained cells, by one formula; None before both are there."""
    final = data.final
    pairs: dict[tuple[int, int], dict[int, tuple[Array, Array, Array]]] = {}
    if final is None or final.snapshot.surrogate is None:
        return None
    for x in data.by_role("strain"):
        if x.virial is not None:
            own = final.snapshot.surrogate.evaluate(x.atoms)[2]
            key = (x.decision, int(x.meta["pair"]))
            pairs.setdefault(key, {})[int(x.meta["sign"])] = (np.array(x.meta["strain"]), x.virial, own)
    whole = [p for p in pairs.values() if 1 in p and -1 in p]
    if not whole:
        return None
    perfect = [x.virial for x in data.by_role("reference") if x.rung == (1, 1, 1) and x.virial is not None]
    virials = (perfect[0] if perfect else None, final.snapshot.surrogate.evaluate(data.host.atoms())[2])
    volume = data.host.volume
    out = []
    for k, virial in enumerate(virials):
        C = elastic_constants([(p[1][0], p[1][1 + k], p[-1][1 + k]) for p in whole], volume, data.host) / units.GPa
        pressure = None if virial is None else float(virial[:3].sum() / (3 * volume) / units.GPa)
        out.append(Elastic(float(C[0, 0]), float(C[0, 1]), float(C[3, 3]), pressure))
    return out[0], out[1]


def surrogate_constants(surrogate: Surrogate, cell: DisplacedCells, step: float) -> Array:
    """The surrogate's C on the oracle's supercell, by the same displaced cells: both are folded alike."""
    return cell.from_forces(lambda atoms: surrogate.evaluate(atoms)[1], step)


def phonons(data: CampaignData) -> Figure:
    """Phonon dispersion of the host in THz along the standard path, oracle and surrogate.

    Dots mark the wave vectors that fit the force-constant cell, where the oracle's frequencies carry no interpolation.
    """
    with styled():
        figure, (ax,) = axes(height=3.1)
        known = data.force_constants
        if known is None:
            empty(ax, "no force constants have been bought yet")
            return figure
        cell, constants, step = known
        path = band_path(data.host.lattice)
        w = frequencies(data.host, constants, cell.size, path.q)
        ax.plot(path.x, w, color=INK, lw=1.3)
        exact = commensurate(data.host.lattice, cell.size)
        ax.plot(exact.x, frequencies(data.host, constants, cell.size, exact.q), "o", color=INK, ms=3.2)
        handles = [ax.lines[0]]
        names = ["oracle (dots: exact)"]
        if data.final is not None and data.final.snapshot.surrogate is not None:
            own = surrogate_constants(data.final.snapshot.surrogate, cell, step)
            lines = ax.plot(
                path.x, frequencies(data.host, own, cell.size, path.q), color=COLORS["red"], lw=1.3, ls=(0, (4, 2))
            )
            handles.append(lines[0])
            names.append("surrogate")
        for _, x in path.ticks:
            ax.axvline(x, color="#cbd2d9", lw=0.7, zorder=0)
        ax.set_xticks([x for _, x in path.ticks], [name for name, _ in path.ticks])
        ax.set_xlim(path.x[0], path.x[-1])
        ax.set_ylim(bottom=min(0.0, 1.05 * float(w.min())))
        ax.grid(False, axis="x")
        ax.axhline(0, color="#cbd2d9", lw=0.7, zorder=0)
        ax.set_ylabel("frequency (THz)")
        ax.set_xlabel("wave vector")
        figure.legend(handles, names, loc="outside upper right", ncols=2)
    return figure
