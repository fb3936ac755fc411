"""The relaxed defect in the target cell: decay of its strain into the far field, and displacement shell by shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from farfield.service.cells import Size, half_width
from farfield.service.cells.images import minimum_image
from farfield.service.report.data import CampaignData, size_name
from farfield.service.report.style import COLORS, INK, MUTED, axes, empty, styled

__all__ = ["Shell", "relaxation_by_shell", "shells", "strain_decay"]

Array = NDArray[np.float64]
SHELLS = 10
"""Neighbour shells shown."""
SAME = 0.02
"""Atoms whose distances differ by less than this share of r_nn belong to one shell."""
MANY = 3000
"""Dots above which a picture holds them as pixels, not as shapes."""


@dataclass(frozen=True)
class Shell:
    """Atoms at one ideal `distance` (Å) from the defect's centre: their `count`, mean radial displacement (Å, outward
    positive; NaN at the centre), mean and largest |u| (Å), mean |Du| (Å)."""

    distance: float
    count: int
    radial: float
    mean: float
    largest: float
    strain: float


def displacement(data: CampaignData) -> Array | None:
    """u^h (N, 3) in Å of the last round, rigid shift taken out by the mean over the corners of the target cell."""
    if data.final is None or data.final.snapshot.u is None:
        return None
    u, target = data.final.snapshot.u, data.target
    if u.shape != (target.natoms, 3):
        return None
    return np.asarray(u - u[target.radius > 0.8 * target.radius.max()].mean(axis=0))


def shells(data: CampaignData, count: int = SHELLS) -> list[Shell]:
    """The first neighbour shells of the defect in the last surrogate's solution; empty before there is one."""
    u = displacement(data)
    if u is None:
        return []
    target = data.target
    order = np.argsort(target.radius, kind="stable")
    radius = target.radius[order]
    cuts = np.flatnonzero(np.diff(radius) > SAME * data.host.nearest) + 1
    r = minimum_image(target.x0 - target.defect.centre(data.host) @ data.host.cell, target.cell)
    strain = target.strain(u)
    size = np.linalg.norm(u, axis=1)
    out = []
    for atoms in np.split(order, cuts)[:count]:
        d = float(target.radius[atoms].mean())
        away = (u[atoms] * r[atoms]).sum(axis=1) / np.maximum(np.linalg.norm(r[atoms], axis=1), 1e-12)
        radial = float(away.mean()) if d > 1e-3 else float("nan")
        out.append(
            Shell(
                d, len(atoms), radial, float(size[atoms].mean()), float(size[atoms].max()), float(strain[atoms].mean())
            )
        )
    return out


def strain_decay(data: CampaignData) -> Figure:
    """|Du(l)| of every atom of the target cell against its distance from the defect, both logarithmic.

    The line falls as distance^-3, the law for a point defect in an elastic solid. Dotted lines mark the half widths L
    of the rungs that were bought; atoms in the corners beyond the target's own half width, where images overlap, are
    pale.
    """
    with styled():
        figure, (ax,) = axes(height=3.4)
        u = displacement(data)
        if u is None:
            empty(ax, "no surrogate has been fitted yet")
            return figure
        target = data.target
        r, s = target.radius, target.strain(u)
        shown = (r > 0.3 * data.host.nearest) & (s > 1e-9)
        edge = target.half_width
        core, corner = shown & (r <= edge), shown & (r > edge)
        many = len(r) > MANY
        for mask, marker, color, alpha, label in (
            (corner, ".", COLORS["grey"], 0.45, "beyond its half width"),
            (core, "o", COLORS["blue"], 0.6, "atoms of the target cell"),
        ):
            ax.plot(r[mask], s[mask], marker, color=color, alpha=alpha, ms=3, mew=0, label=label, rasterized=many)
        if data.truth is not None and data.truth.u is not None and data.truth.u.shape == u.shape:
            t = target.strain(data.truth.u)
            look: dict[str, Any] = {"ms": 6, "mew": 0.7, "mfc": "none", "zorder": 1, "rasterized": many}
            ax.plot(r[shown], t[shown], "o", color=COLORS["red"], label="oracle (verify)", **look)
        if core.any():
            outer = core & (r > 0.5 * edge)
            use = outer if outer.any() else core
            level = float(np.exp(np.mean(np.log(s[use] * r[use] ** 3))))
            line = np.array([r[core].min(), r[shown].max()])
            ax.plot(line, level / line**3, color=INK, lw=1.1, label=r"$\propto l^{-3}$")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ticks = [t for t in (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 40, 60) if 0.9 * r[shown].min() < t < 1.2 * r.max()]
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        for width, sizes in _half_widths(data).items():
            ax.axvline(width, color=MUTED, lw=0.8, ls=(0, (1, 2)))
            name = size_name(sizes[0]) + (f" to {size_name(sizes[-1])}" if len(sizes) > 1 else "")
            ax.text(
                width, 1.01, name, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=7, color=MUTED
            )
        ax.set_xlabel(r"distance from the defect $l$ (Å)")
        ax.set_ylabel(r"strain $|Du(l)|$ (Å)")
        ax.legend(loc="lower left")
    return figure


def _half_widths(data: CampaignData) -> dict[float, list[Size]]:
    """L in Å -> the rungs of that half width whose cells were bought, small to large."""
    out: dict[float, list[Size]] = {}
    for size in sorted({x.rung for x in data.labels if x.role in ("training", "verification")}):
        out.setdefault(round(half_width(data.host, size), 6), []).append(size)
    return dict(sorted(out.items()))


def relaxation_by_shell(data: CampaignData) -> Figure:
    """Mean radial displacement (Å, outward positive) and mean |u| of the first neighbour shells of the defect."""
    with styled():
        figure, (ax,) = axes(height=2.6)
        found = shells(data)
        if not found:
            empty(ax, "no surrogate has been fitted yet")
            return figure
        k = np.arange(1, len(found) + 1)
        radial = np.nan_to_num([x.radial for x in found])
        ax.bar(k - 0.19, radial, 0.36, color=COLORS["blue"], label="radial (outward positive)")
        ax.bar(k + 0.19, [x.mean for x in found], 0.36, color=COLORS["grey"], label=r"$|u|$")
        ax.axhline(0, color=INK, lw=0.7)
        ax.set_xticks(k, [f"{x.distance:.2f} Å\n{x.count} atom{'s' if x.count > 1 else ''}" for x in found])
        ax.tick_params(axis="x", labelsize=7)
        ax.grid(False, axis="x")
        ax.set_xlabel("shell: ideal distance from the defect and number of atoms")
        ax.set_ylabel("mean displacement (Å)")
        ax.legend(loc="best")
    return figure
