"""How the pictures look, and how they get into a page: one palette, one rule for axes, SVG as a data address."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLORS", "INK", "MUTED", "WIDTH", "axes", "empty", "image", "styled"]

WIDTH = 7.4
"""Width of a picture in the page, inches; a column of a paper takes half of it."""
INK, MUTED = "#1f2933", "#697684"
COLORS = {
    "blue": "#0072b2",
    "red": "#d55e00",
    "green": "#009e73",
    "orange": "#e69f00",
    "purple": "#cc79a7",
    "sky": "#56b4e9",
    "grey": "#9aa5b1",
}
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "mathtext.fontset": "dejavusans",
    "axes.edgecolor": "#52606d",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "text.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "farfield",
    "path.simplify": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """Inside, figures are made in the report's style; the reader's own settings are left alone."""
    with mpl.rc_context(_RC):
        yield


def axes(columns: int = 1, rows: int = 1, *, height: float = 2.9, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure without pyplot's global state (no window, no leak) and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    out = list(grid.ravel())
    for ax in out:
        ax.grid(True)
    return figure, out


def empty(ax: Axes, text: str) -> None:
    """Say in the axes why there is nothing to show, and make the picture low."""
    ax.set_axis_off()
    if isinstance(ax.figure, Figure):
        ax.figure.set_size_inches(WIDTH, 0.7)
    ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=ax.transAxes)


def image(figure: Figure) -> str:
    """The figure as a ``data:`` address of an SVG; equal figures give equal text. Needs no file and no network."""
    stream = io.BytesIO()
    with styled():
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, dpi=200)
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
