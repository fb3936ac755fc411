"""Parity of the last surrogate against every oracle label: what it was fitted to, and what it had never seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from farfield.errors import BasisError
from farfield.service.cells import DefectCell
from farfield.service.report.data import CampaignData, Label
from farfield.service.report.style import COLORS, INK, axes, empty, styled

__all__ = ["Parity", "forces_and_energies", "parity"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parity:
    """Oracle (x) and surrogate (y) values of one kind: `fitted` and `held` are pairs of equally long arrays.

    Forces in eV/Å, all components; energies in eV per cell, counted from the perfect crystal.
    """

    fitted: tuple[Array, Array]
    held: tuple[Array, Array]

    @staticmethod
    def rms(pair: tuple[Array, Array]) -> float:
        """Root mean square of y - x, NaN where empty."""
        return float(np.sqrt(np.mean((pair[1] - pair[0]) ** 2))) if len(pair[0]) else float("nan")


def parity(data: CampaignData) -> tuple[Parity, Parity] | None:
    """Forces and energies; None before the first fit. The fit holds what was bought before the last decision."""
    final = data.final
    reference = [x.energy for x in data.by_role("reference") if x.rung == (1, 1, 1) and x.energy is not None]
    if final is None or final.snapshot.surrogate is None:
        return None
    own_reference = final.snapshot.surrogate.evaluate(data.host.atoms())[0]
    forces: dict[bool, list[tuple[Array, Array]]] = {True: [], False: []}
    energies: dict[bool, list[tuple[Array, Array]]] = {True: [], False: []}
    for x in data.labels:
        if (x.energy is None and x.forces is None) or x.role == "confirmation":
            continue
        try:
            energy, force, _ = final.snapshot.surrogate.evaluate(x.atoms)
        except BasisError:  # a cell outside what the basis can describe, such as atoms too near
            continue
        before = x.decision < final.number and not x.withdrawn
        defect = x.role in ("training", "verification")
        if x.forces is not None:
            used = before and (defect or (x.role == "force constants" and final.snapshot.fit_fc))
            forces[used].append((x.forces.ravel(), force.ravel()))
        if x.energy is not None and reference:
            n = host_cells(data, x)
            pair = np.array([x.energy - n * reference[0]]), np.array([energy - n * own_reference])
            energies[before and defect].append(pair)
    return (
        Parity(_joined(forces[True]), _joined(forces[False])),
        Parity(_joined(energies[True]), _joined(energies[False])),
    )


def host_cells(data: CampaignData, x: Label) -> float:
    """How many perfect host cells are taken off a label's energy (decisions C9)."""
    if x.role in ("training", "verification"):
        return DefectCell(data.host, data.defect, x.rung).references
    return len(x.atoms) / data.host.nb


def _joined(pairs: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    if not pairs:
        return np.zeros(0), np.zeros(0)
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def forces_and_energies(data: CampaignData) -> Figure:
    """Parity of force components (eV/Å) and cell energies (eV, from the perfect crystal), residuals below."""
    with styled():
        figure, (left, right, low_left, low_right) = axes(2, 2, height=4.4)
        both = parity(data)
        if both is None:
            for ax in (left, right, low_left, low_right):
                empty(ax, "no surrogate has been fitted yet" if ax is left else "")
            return figure
        _panel(left, low_left, both[0], "force component", "eV/Å", 1e3, "meV/Å")
        _panel(right, low_right, both[1], "energy of a cell", "eV", 1e3, "meV")
        left.legend(loc="upper left")
    return figure


def _panel(top: Axes, low: Axes, p: Parity, what: str, unit: str, factor: float, small: str) -> None:
    if not len(p.fitted[0]) and not len(p.held[0]):
        empty(top, "no labels yet")
        empty(low, "")
        return
    groups = (("fitted", p.fitted, COLORS["blue"], "o"), ("not in the fit", p.held, COLORS["red"], "D"))
    for name, (x, y), color, marker in groups:
        if len(x):
            many = len(x) > 300
            look: dict[str, Any] = {
                "ms": 2.2 if many else 4,
                "alpha": 0.45 if many else 0.9,
                "mew": 0,
                "rasterized": many,
            }
            top.plot(x, y, marker, color=color, label=name, **look)
            low.plot(x, factor * (y - x), marker, color=color, **look)
    everything = np.concatenate([*p.fitted, *p.held])
    ends = np.array([everything.min(), everything.max()])
    top.plot(ends, ends, color=INK, lw=0.8, zorder=0)
    low.axhline(0, color=INK, lw=0.8, zorder=0)
    text = "\n".join(
        f"rms {name} {factor * Parity.rms(pair):.3g} {small}" for name, pair, _, _ in groups if len(pair[0])
    )
    top.text(0.98, 0.04, text, transform=top.transAxes, ha="right", va="bottom", fontsize=7.5)
    top.set_ylabel(f"surrogate ({unit})")
    low.set_ylabel(f"surrogate − oracle ({small})")
    low.set_xlabel(f"oracle {what} ({unit})")
    top.sharex(low)
    top.tick_params(labelbottom=False)
