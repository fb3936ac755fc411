"""The table of rounds, as `run` shows it live and `status` reads it from the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from farfield.db.record import Record
    from farfield.oracles.noise import Noise
    from farfield.service.campaign.decision import Proposal
    from farfield.service.cells import Size
    from farfield.service.estimates import Estimate

__all__ = [
    "BasisUsed",
    "Round",
    "basis_lines",
    "basis_of",
    "bought",
    "noise_line",
    "noise_of",
    "rounds_table",
    "stored_rounds",
]

WIDE = 170
"""Columns from which a round takes one line of the table with its reason; below, two lines of figures."""


@dataclass(frozen=True)
class BasisUsed:
    """Level and number of functions of a decision's surrogate; why it has just grown, None where it has not."""

    level: int
    size: int
    grown: str | None


@dataclass(frozen=True)
class Round:
    """One line: what a decision bought, its oracle core-seconds, and the estimate it gave (None before there is one).

    `reason` is why the next choice is made, where an estimate says it, else why this one was. `basis` is that of the
    surrogate that made the decision, None before the first; `noise` the oracle's, None before it was measured; `size`
    the number of proposals.
    """

    number: int
    cells: str
    bought: str
    core_seconds: float
    reason: str
    estimate: Estimate | None
    basis: BasisUsed | None = None
    noise: Noise | None = None
    size: int = 0

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        estimate = None if self.estimate is None else self.estimate.to_json()
        return {**asdict(self), "estimate": estimate}


def bought(proposals: Iterable[Proposal]) -> tuple[str, str]:
    """The cells and the kinds of a decision in short: ("4x4x4, 1x1x1", "1 EFV, 2 FC")."""
    return described((p.rung, p.role, p.kinds, 1) for p in proposals)


def described(groups: Iterable[tuple[Size, str, tuple[str, ...], int]]) -> tuple[str, str]:
    """The same of (supercell, role, kinds, count)."""
    cells: dict[str, None] = {}
    kinds: Counter[str] = Counter()
    for rung, role, asked, count in groups:
        cells["{}x{}x{}".format(*rung)] = None
        kinds["FC" if role == "force constants" else "".join(asked)] += count
    return ", ".join(cells), ", ".join(f"{n} {k}" for k, n in kinds.items())


def stored_rounds(record: Record, campaign: int, last: int | None = None) -> list[Round]:
    """The rounds of a campaign as the database has them, oldest first, or the `last` few."""
    from farfield.db.overview import rounds
    from farfield.service.estimates import Estimate

    with record.database.read() as connection:
        stored = rounds(connection, campaign, last)
    out = []
    for r in stored:
        estimate = None if r.estimate is None else Estimate.from_json(r.estimate)
        reason = estimate.reason if estimate is not None and estimate.reason else r.reason
        what = described((g.rung, g.role, g.kinds, g.count) for g in r.groups)
        basis, noise, size = basis_of(r.summary), noise_of(r.summary), sum(g.count for g in r.groups)
        out.append(Round(r.number, *what, r.core_seconds, reason, estimate, basis, noise, size))
    return out


def basis_of(summary: Mapping[str, Any]) -> BasisUsed | None:
    """The basis that a decision's summary names, None before the first fit."""
    if "basis_level" not in summary:
        return None
    return BasisUsed(int(summary["basis_level"]), int(summary["basis_size"]), summary.get("grown"))


def noise_of(summary: Mapping[str, Any]) -> Noise | None:
    """The oracle's noise that a decision's summary names."""
    from farfield.oracles.noise import Noise

    found = summary.get("oracle_noise")
    return None if found is None else Noise.from_json(found)


def noise_line(rounds: Sequence[Round]) -> str | None:
    """The oracle's noise in words, None where it is not known."""
    noise = rounds[-1].noise if rounds else None
    if noise is None:
        return None
    return "noise: none, the oracle is analytic" if noise.none else f"noise of the oracle: {noise}"


def basis_lines(rounds: Sequence[Round]) -> list[str]:
    """The basis from round to round, in words: where it began, and each time it grew why."""
    lines: list[str] = []
    level = None
    for r in rounds:
        b = r.basis
        if b is None or b.level == level:
            continue
        level = b.level
        text = f"basis: level {b.level}, {b.size} functions, from round {r.number}"
        lines.append(text + (f": {b.grown}" if b.grown else ""))
    return lines


def rounds_table(rounds: Sequence[Round], width: int) -> Table:
    """A rich table that fits `width` columns: one line per round where there is room, else two."""
    from rich.table import Table

    wide = width >= WIDE
    heads = [
        ("round", "grade"),
        ("cells", "bought"),
        ("core-s", "basis"),
        ("eta_geo", "in-sample"),
        ("core", "FC"),
        ("V", "fold"),
        ("hidden", "noise"),
        ("eta_E", "param."),
        ("E_f raw", "E_f"),
    ]
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 1),
        caption="eta_geo to param. in Å, eta_E in meV, E_f in eV; hidden: what the rung cannot see; noise: what the "
        "oracle's gives for core; grade: largest extrapolation at u^h",
        caption_justify="left",
    )
    for k, (first, second) in enumerate(heads):
        justify: Any = "left" if k == 1 else "right"
        if wide:
            table.add_column(first, justify=justify, no_wrap=True)
            if second:
                table.add_column(second, justify=justify, no_wrap=k != 1)
        else:
            table.add_column(f"{first}\n{second}", justify=justify, overflow="fold")
    if wide:
        table.add_column("next", overflow="fold")
    for r in rounds:
        figures = _figures(r)
        if wide:
            table.add_row(*(c for pair in figures for c in pair if c is not None), r.reason)
        else:
            table.add_row(*(a if b is None else f"{a}\n{b}" for a, b in figures))
    return table


def _figures(r: Round) -> list[tuple[str, str | None]]:
    """Pairs (first line, second line) in the order of the heads; None where a head has one line."""
    e = r.estimate
    first: list[tuple[str, str | None]] = [
        (str(r.number), "-" if e is None or e.grade is None else f"{e.grade:.2f}"),
        (r.cells, r.bought),
        (_seconds(r.core_seconds), "-" if e is None else str(e.basis_size)),
    ]
    if e is None:
        return [*first, *[("-", "-")] * 6]
    return [
        *first,
        (_length(e.eta_geo), _length(e.in_sample)),
        (_length(e.core), _length(e.fc)),
        (_length(e.v), _length(e.fold)),
        (_length(e.hidden), _length(e.noise)),
        (f"{1e3 * e.eta_energy:+.2f}", _length(e.parametric_geo)),
        (f"{e.formation_energy_raw:.4f}", f"{e.formation_energy:.4f}"),
    ]


def _length(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
