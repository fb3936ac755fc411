"""What was paid: oracle cost by the kind of cell and by its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from farfield.oracles.observation import KINDS
from farfield.service.report.convergence import cost_unit
from farfield.service.report.data import CampaignData, Label
from farfield.service.report.style import COLORS, axes, empty, styled

__all__ = ["Share", "by_kind", "by_size", "cost_by_kind_and_size"]


@dataclass(frozen=True)
class Share:
    """Core-seconds and calls charged to one group of labels; `failed`: calculations without a full answer."""

    name: str
    core_seconds: float
    calls: int
    failed: int


def by_kind(data: CampaignData) -> list[Share]:
    """Shares by what the cells were bought for and the kinds asked of them, the dearest first."""
    found = _grouped(data, lambda x: f"{x.role} ({', '.join(_kinds(x))})")
    seconds, calls = data.other_cost
    if calls:
        found.append(Share("verify (end result)", seconds, calls, 0))
    return sorted(found, key=lambda s: (-s.core_seconds, s.name))


def by_size(data: CampaignData) -> list[Share]:
    """Shares by number of atoms, small cells first."""
    found = _grouped(data, lambda x: f"{len(x.atoms)} atoms")
    seconds, calls = data.other_cost
    if calls:
        found.append(Share(f"{data.target.natoms} atoms", seconds, calls, 0))
    return sorted(found, key=_atoms)


def _atoms(share: Share) -> int:
    return int(share.name.split()[0])


def _kinds(x: Label) -> list[str]:
    """Kinds in the registry's order; displaced cells give FC."""
    return ["FC"] if x.role == "force constants" else [k for k in KINDS if k in x.kinds]


def _grouped(data: CampaignData, key: Callable[[Label], str]) -> list[Share]:
    groups: dict[str, list[Label]] = {}
    for x in data.labels:
        groups.setdefault(key(x), []).append(x)
    return [
        Share(
            name,
            sum(x.core_seconds for x in group),
            sum(x.calls for x in group),
            sum(x.failure is not None for x in group),
        )
        for name, group in groups.items()
    ]


def cost_by_kind_and_size(data: CampaignData) -> Figure:
    """Oracle cost as bars, by kind of cell (left) and by number of atoms (right); labels give the number of calls."""
    with styled():
        kinds, sizes = by_kind(data), by_size(data)
        figure, (left, right) = axes(2, height=max(1.6, 0.7 + 0.27 * max(len(kinds), len(sizes))))
        if not kinds:
            empty(left, "nothing has been bought yet")
            empty(right, "")
            return figure
        unit, name = cost_unit(sum(s.core_seconds for s in kinds))
        _bars(left, kinds, unit, COLORS["blue"])
        _bars(right, sizes, unit, COLORS["sky"])
        for ax in (left, right):
            ax.set_xlabel(f"oracle cost ({name})")
    return figure


def _bars(ax: Axes, shares: list[Share], unit: float, color: str) -> None:
    y = np.arange(len(shares))
    width = [s.core_seconds / unit for s in shares]
    ax.barh(y, width, 0.68, color=color)
    for k, s in enumerate(shares):
        text = f" {s.calls} call{'' if s.calls == 1 else 's'}" + (f", {s.failed} failed" if s.failed else "")
        ax.text(width[k], k, text, va="center", fontsize=7.5)
    ax.set_yticks(y, [s.name for s in shares])
    ax.set_ylim(len(shares) - 0.4, -0.6)
    ax.set_xlim(0, 1.25 * max([*width, 1e-9]))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(False, axis="y")
