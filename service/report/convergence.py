"""How the error went down and what it cost: the estimates against oracle cost, the formation energy by round."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from farfield.service.estimates import Estimate
from farfield.service.report.data import CampaignData, Round, size_name
from farfield.service.report.style import COLORS, INK, MUTED, axes, empty, styled

__all__ = ["cost_unit", "error_against_cost", "formation_energy", "true_energy_errors", "true_geometry_errors"]

Line = list[tuple[float, float]]


def cost_unit(core_seconds: float) -> tuple[float, str]:
    """The unit in which a cost of this size is read best: (core-seconds per unit, name)."""
    if core_seconds < 600:
        return 1.0, "core-seconds"
    return (60.0, "core-minutes") if core_seconds < 36000 else (3600.0, "core-hours")


def true_geometry_errors(data: CampaignData) -> dict[int, float]:
    """Decision -> ||D(u - u^h)|| in Å of its surrogate, where `verify` ran: every round if it kept u, else the last."""
    if data.truth is None or not data.estimated:
        return {}
    if data.truth.u is None:
        return {data.estimated[-1][0].number: data.truth.geometry}
    out = {}
    for r, _ in data.estimated:
        if r.snapshot.u is not None and r.snapshot.u.shape == data.truth.u.shape:
            out[r.number] = data.target.norm(data.truth.u - r.snapshot.u)
    return out


def true_energy_errors(data: CampaignData) -> dict[int, float]:
    """Decision -> E_f - E_f^h in eV (oracle in the target cell minus raw surrogate), where `verify` ran."""
    if data.truth is None:
        return {}
    return {r.number: data.truth.formation_energy - e.formation_energy_raw for r, e in data.estimated}


def error_against_cost(data: CampaignData) -> Figure:
    """eta_geo (Å) and |eta_E| (meV) of every verification call against the oracle cost charged until then.

    Bars reach up to theta times the estimate, which is what must lie below the tolerance. Where `verify` ran the true
    errors stand beside; before that, the distance of each round's solution from the last one.
    """
    with styled():
        figure, (left, right) = axes(2, height=3.3)
        if not data.estimated:
            empty(left, "no verification call yet")
            empty(right, "")
            return figure
        unit, name = cost_unit(max(data.spent.values()))
        x = {r.number: data.spent[r.number] / unit for r, _ in data.estimated}
        rounds = data.estimated
        geometry = [(x[r.number], e.eta_geo, e.guarded_geo / e.eta_geo if e.eta_geo else 1.0) for r, e in rounds]
        energy = [(x[r.number], 1e3 * abs(e.eta_energy), e.theta) for r, e in rounds]
        _estimates(left, geometry, COLORS["blue"], r"estimate $\eta_\mathrm{geo}$, $|\eta_E|$ (bar: $\times\,\theta$)")
        _estimates(right, energy, COLORS["blue"], "")
        noise = [(x[r.number], e.noise) for r, e in rounds if e.noise]
        if noise:
            left.plot(*zip(*noise, strict=True), "v:", color=MUTED, ms=4, label="noise alone", zorder=2)
        if data.truth is not None:
            true = true_geometry_errors(data)
            _second(left, [(x[n], v) for n, v in true.items()], "true error", "X")
            second = true_energy_errors(data)
            _second(right, [(x[n], 1e3 * abs(v)) for n, v in second.items()], "true error", "X")
        else:
            _second(left, _distances(data, x), "distance to the last solution", "D")
            last = rounds[-1][1].formation_energy
            gaps = [(x[r.number], 1e3 * abs(e.formation_energy_raw - last)) for r, e in rounds[:-1]]
            _second(right, gaps, "", "D")
        for ax, tolerance in ((left, data.tol_geo), (right, 1e3 * data.tol_energy)):
            ax.axhline(tolerance, color=COLORS["green"], lw=1.2, ls=(0, (5, 3)), label="tolerance")
            ax.set_yscale("log")
            ax.set_xlim(*_span(list(x.values())))
            ax.xaxis.set_major_locator(MaxNLocator(6))
            ax.set_xlabel(f"oracle cost ({name})")
            ax.margins(y=0.15)
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
        _rungs(left, geometry, rounds)
        left.set_ylabel(r"geometry error $\|D(u-u^h)\|$ (Å)")
        right.set_ylabel("formation-energy error (meV)")
    return figure


def _estimates(ax: Axes, points: Sequence[tuple[float, float, float]], color: str, label: str) -> None:
    xs, ys, theta = zip(*points, strict=True)
    upper = [y * (t - 1) for y, t in zip(ys, theta, strict=True)]
    ax.errorbar(
        xs, ys, yerr=([0.0] * len(ys), upper), fmt="o-", color=color, ecolor=color, elinewidth=0.9, capsize=2.5,
        label=label, zorder=3,
    )  # fmt: skip


def _second(ax: Axes, points: Line, label: str, marker: str) -> None:
    kept = [(a, b) for a, b in points if b > 0]
    if kept:
        face = COLORS["red"] if marker == "X" else "white"
        ax.plot(*zip(*kept, strict=True), marker, color=COLORS["red"], mfc=face, label=label, zorder=4)


def _rungs(ax: Axes, points: Sequence[tuple[float, float, float]], rounds: Sequence[tuple[Round, Estimate]]) -> None:
    """Name each cell beside its point; one that stays on the same rung is not named again."""
    named = None
    for (x, y, _), (_, e) in zip(points, rounds, strict=True):
        if e.rung != named:
            named = e.rung
            ax.annotate(
                size_name(e.rung), (x, y), xytext=(-5, -4), textcoords="offset points", fontsize=7, color=MUTED,
                ha="right", va="top",
            )  # fmt: skip


def _span(costs: Sequence[float]) -> tuple[float, float]:
    """Limits of the cost axis: from zero, unless the cost before the first estimate would press the points together."""
    first, last = min(costs), max(costs)
    if first <= 0.7 * last or first == last:
        return 0.0, 1.12 * last or 1.0
    return first - 0.4 * (last - first), last + 0.15 * (last - first)


def _distances(data: CampaignData, x: dict[int, float]) -> Line:
    """||D(u_round - u_last)||: within theta eta of the last round, the true error of an earlier one."""
    rounds = [r for r, _ in data.estimated if r.snapshot.u is not None]
    if not rounds or rounds[-1].snapshot.u is None:
        return []
    last = rounds[-1].snapshot.u
    return [
        (x[r.number], data.target.norm(r.snapshot.u - last))
        for r in rounds[:-1]
        if r.snapshot.u is not None and r.snapshot.u.shape == last.shape
    ]


def formation_energy(data: CampaignData) -> Figure:
    """E_f in eV by round: raw surrogate, corrected by eta_E (bars: theta |eta_E|), and the dilute limit.

    The band is the energy tolerance about the last corrected value; a line marks the oracle's own where `verify` ran.
    """
    with styled():
        figure, (ax,) = axes(height=2.8)
        if not data.estimated:
            empty(ax, "no verification call yet")
            return figure
        n = [float(r.number) for r, _ in data.estimated]
        estimates = [e for _, e in data.estimated]
        last = estimates[-1].formation_energy
        ax.axhspan(
            last - data.tol_energy, last + data.tol_energy, color=COLORS["green"], alpha=0.12, lw=0, label="tolerance"
        )
        ax.plot(n, [e.formation_energy_raw for e in estimates], "o--", color=COLORS["sky"], label="raw surrogate")
        ax.errorbar(
            n, [e.formation_energy for e in estimates], yerr=[e.theta * abs(e.eta_energy) for e in estimates], fmt="s-",
            color=COLORS["blue"], elinewidth=0.9, capsize=2.5, label=r"corrected, $\pm\theta|\eta_E|$",
        )  # fmt: skip
        dilute = [(k, e.formation_energy_dilute) for k, e in zip(n, estimates, strict=True)]
        kept = [(k, v) for k, v in dilute if v is not None]
        if kept:
            ax.plot(*zip(*kept, strict=True), "^", color=COLORS["orange"], mfc="white", ms=6, label="dilute limit")
        if data.truth is not None:
            ax.axhline(data.truth.formation_energy, color=INK, lw=1, ls=(0, (1, 1.5)), label="oracle, target cell")
        ax.set_xticks(n, [f"{r.number}\n{size_name(e.rung)}" for r, e in data.estimated])
        ax.set_xlim(min(n) - 0.5, max(n) + 0.5)
        ax.grid(False, axis="x")
        ax.set_xlabel("round and cell of its verification call")
        ax.set_ylabel(r"formation energy $E_f$ (eV)")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
