"""What the next rungs are expected to bring: forecast error against cost, behind the measured points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from farfield.service.cells import Size
from farfield.service.report.convergence import cost_unit
from farfield.service.report.data import CampaignData, size_name
from farfield.service.report.style import COLORS, MUTED, axes, empty, styled

__all__ = ["Predicted", "predicted_error"]


class Predicted(NamedTuple):
    """One rung: core-seconds spent up to it; eta_geo (Å) and |eta_E| (eV), each with the ends of its 68 % interval."""

    size: Size
    spent: float
    geometry: tuple[float, float, float]
    energy: tuple[float, float, float]


def predicted_error(data: CampaignData, predicted: Sequence[Predicted]) -> Figure:
    """eta_geo (Å) and |eta_E| (meV) against oracle cost: measured (filled), forecast (open) with 68 % bands."""
    with styled():
        figure, (left, right) = axes(2, height=3.3)
        if not data.estimated:
            empty(left, "no verification call yet: nothing to forecast from")
            empty(right, "")
            return figure
        unit, name = cost_unit(max([*data.spent.values(), *(p.spent for p in predicted)]))
        known = [(data.spent[r.number] / unit, e.eta_geo, 1e3 * abs(e.eta_energy)) for r, e in data.estimated]
        cost = [p.spent / unit for p in predicted]
        parts = (
            (left, [k[1] for k in known], [p.geometry for p in predicted], 1.0, data.tol_geo),
            (right, [k[2] for k in known], [p.energy for p in predicted], 1e3, 1e3 * data.tol_energy),
        )
        for ax, measured, ranges, scale, tolerance in parts:
            ax.plot([k[0] for k in known], measured, "o-", color=COLORS["blue"], label="measured", zorder=3)
            if ranges:
                middle, low, high = ([scale * r[k] for r in ranges] for k in range(3))
                x, y = [known[-1][0], *cost], [measured[-1], *middle]
                ax.plot(x, y, "--", color=COLORS["orange"], zorder=2)
                ax.plot(cost, middle, "o", color=COLORS["orange"], mfc="white", label="forecast, 68 % band", zorder=3)
                ends = [measured[-1]]
                ax.fill_between(x, [*ends, *low], [*ends, *high], color=COLORS["orange"], alpha=0.2, lw=0)
            ax.axhline(tolerance, color=COLORS["green"], lw=1.2, ls=(0, (5, 3)), label="tolerance")
            ax.set_yscale("log")
            ax.xaxis.set_major_locator(MaxNLocator(6))
            ax.set_xlabel(f"oracle cost ({name})")
            ax.margins(y=0.12)
        first = known[0][0]
        last = max([*cost, known[-1][0]])
        for ax in (left, right):
            ax.set_xlim(max(0.0, first - 0.15 * (last - first or last)), last + 0.08 * (last - first or last))
        for p, x_ in zip(predicted, cost, strict=True):
            left.annotate(
                size_name(p.size), (x_, p.geometry[0]), xytext=(4, 4), textcoords="offset points", fontsize=7,
                color=MUTED,
            )  # fmt: skip
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
        left.set_ylabel(r"geometry error $\eta_\mathrm{geo}$ (Å)")
        right.set_ylabel(r"formation-energy error $|\eta_E|$ (meV)")
    return figure
