"""The picture: test errors of forces and energies against the number of functions."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib
from accuracy import FORCE_BAR, MOST_COLUMNS, TRAIN, Curve, Point

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
PANELS = {
    "W": ("W mended", "W: the step in the table mended"),
    "Si": (None, ""),
    "SiC": ("SiC hot", "SiC: rattled as W and Si"),
}


def draw(curves: dict[str, Curve], path: Path) -> None:
    """Writes the picture (PNG)."""
    style = {"font.size": 8, "axes.titlesize": 8, "legend.fontsize": 6.5, "axes.spines.top": False}
    with plt.rc_context({**style, "axes.spines.right": False, "savefig.dpi": 250}):
        figure, axes = plt.subplots(2, 3, figsize=(7.2, 5.0), sharex="col", layout="constrained")
        for column, (name, (second, said)) in enumerate(PANELS.items()):
            top, bottom = axes[0, column], axes[1, column]
            color = ORANGE if column == 0 else GREEN
            panel(top, bottom, curves[name], curves[second] if second else None, said, color)
            top.set_title(curves[name].material.title)
            bottom.set_xlabel("functions" if len(curves[name].material.species) == 1 else "functions, both species")
        drawn: dict[str, Artist] = {}
        for axis in axes[0]:
            handles, labels = axis.get_legend_handles_labels()
            drawn |= dict(zip(labels, handles, strict=True))
        figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=3, frameon=False)
        axes[0, 0].set_ylabel("rms error of test forces, meV/Å")
        axes[1, 0].set_ylabel("rms error of test energies, meV/atom")
        figure.savefig(path)
        plt.close(figure)


def panel(top: Axes, bottom: Axes, curve: Curve, second: Curve | None, said: str, color: str) -> None:
    """Forces above, energies below."""
    x = [p.columns for p in curve.points]
    band(top, curve.points, "known", BLUE, f"{TRAIN} training cells: in the sampled range")
    top.plot(
        x, [median(p.forces) for p in curve.points], color=BLUE, ls=":", lw=1, label=f"{TRAIN} training cells: all"
    )
    band(bottom, curve.points, "sure", BLUE, "")
    bottom.plot(x, [median(p.energies) for p in curve.points], color=BLUE, ls=":", lw=1)
    if second:
        x = [p.columns for p in second.points]
        for axes, values in ((top, "known"), (bottom, "sure")):
            y = [median(getattr(p, values)) for p in second.points]
            axes.plot(x, y, color=color, marker="s", ms=2.5, lw=1, label=said)
    for axes, value in ((top, curve.more.known), (bottom, curve.more.sure)):
        axes.plot(
            curve.more.columns,
            median(value),
            "D",
            color=GREY,
            ms=4,
            mfc="none",
            label=f"{curve.fresh} other training cells",
        )
    if curve.floor:
        for axes, value in zip((top, bottom), curve.floor, strict=True):
            axes.axhline(
                median(value), color="k", ls="--", lw=0.8, label="W: floor, what the step alone does to the labels"
            )
    if len(curve.material.species) == 1:
        top.plot([0, MOST_COLUMNS], [FORCE_BAR] * 2, color=GREY, lw=0.8)
        top.plot([MOST_COLUMNS] * 2, [0.93 * FORCE_BAR, 1.08 * FORCE_BAR], color=GREY, lw=0.8)
        top.text(MOST_COLUMNS + 8, 1.15 * FORCE_BAR, "asked for", fontsize=6, color=GREY)
    for axes in (top, bottom):
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.grid(which="major", lw=0.3, alpha=0.6)


def band(axes: Axes, points: list[Point], values: str, color: str, label: str) -> None:
    """Median over the splits and their range."""
    x, y = [p.columns for p in points], [getattr(p, values) for p in points]
    axes.fill_between(x, [min(v) for v in y], [max(v) for v in y], color=color, alpha=0.15, lw=0)
    axes.plot(x, [median(v) for v in y], color=color, marker="o", ms=3, lw=1.2, label=label)
