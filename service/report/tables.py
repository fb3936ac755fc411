"""The tables of the report as text: rounds, the framework's quantities, elastic constants, shells, settings."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from farfield.service.estimates import Estimate
from farfield.service.report.crystal import elastic
from farfield.service.report.data import CampaignData, Round, size_name
from farfield.service.report.relaxation import shells

__all__ = ["Cell", "Row", "Table", "elastic_table", "quantities", "rounds", "settings", "shell_table"]


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a smaller second line, and whether it is worth a warning."""

    text: str
    small: str = ""
    warn: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, and a remark in a line of its own below them."""

    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Heads are (title, unit); the first `left` columns are text."""

    heads: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    left: int = 1

    @property
    def units(self) -> bool:
        """Whether any head has a unit."""
        return any(unit for _, unit in self.heads)


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` decimals, or as a power of ten where that shows nothing; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    if value != 0 and abs(value) < 0.5 * 10**-digits:
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def _share(value: float) -> str:
    """A share of the tolerance in per cent."""
    if math.isnan(value):
        return "–"
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %" if percent >= 0.05 else "< 0.1 %"


def bought(r: Round) -> tuple[str, str]:
    """Cells and kinds of a round in short: ("4×4×4", "1 verification EFV, 2 force constants F")."""
    cells = dict.fromkeys(size_name(x.rung) for x in r.labels)
    kinds = Counter(f"{x.role} {''.join(x.kinds)}" for x in r.labels)
    return ", ".join(cells), ", ".join(f"{n} {k}" for k, n in kinds.items())


def rounds(data: CampaignData) -> Table:
    """A row per decision: what it bought and what it cost; where it verified, every term of the estimate."""
    heads = (
        ("round", ""),
        ("cells", "calls"),
        ("cost", "core‑s"),
        (Markup("η<sub>geo</sub>"), "Å"),
        ("core", "Å"),
        ("FC", "Å"),
        ("V", "Å"),
        ("fold", "Å"),
        ("hidden", "Å"),
        ("noise", "Å"),
        ("param.", "Å"),
        ("in‑sample", "Å"),
        (Markup("η<sub>E</sub>"), "meV"),
        (Markup("E<sub>f</sub> raw"), "eV"),
        (Markup("E<sub>f</sub> corrected"), "eV"),
        (Markup("E<sub>f</sub> dilute"), "eV"),
        ("basis", ""),
        ("gates", ""),
    )
    rows = []
    for r in data.rounds:
        cells, kinds = bought(r)
        first = (
            Cell(str(r.number)),
            Cell(cells, f"{r.calls} call{'' if r.calls == 1 else 's'}"),
            Cell(number(r.core_seconds, 2)),
        )
        e = r.estimate
        reason = e.reason if e is not None and e.reason else ""
        text = f"{kinds}. Why: {r.reason}." + (f" Next: {reason}." if reason else "")
        level = r.summary.get("basis_level")
        rows.append(Row((*first, *(_terms(data, e, level) if e is not None else [Cell("")] * 15)), text))
    return Table(heads, tuple(rows), left=2)


def _terms(data: CampaignData, e: Estimate, level: int | None) -> list[Cell]:
    failed = [name for name, ok in e.gates.items() if not ok]
    extra = [] if level is None else [f"level {level}"]
    extra += [] if e.grade is None else [f"grade {e.grade:.2f}"]
    return [
        Cell(number(e.eta_geo), warn=e.guarded_geo > data.tol_geo),
        Cell(number(e.core)),
        Cell(number(e.fc)),
        Cell(number(e.v)),
        Cell(number(e.fold)),
        Cell(number(e.hidden)),
        Cell(number(e.noise)),
        Cell(number(e.parametric_geo)),
        Cell(number(e.in_sample)),
        Cell(f"{1e3 * e.eta_energy:+.2f}", warn=e.theta * abs(e.eta_energy) > data.tol_energy),
        Cell(number(e.formation_energy_raw)),
        Cell(number(e.formation_energy)),
        Cell(number(e.formation_energy_dilute)),
        Cell(str(e.basis_size), ", ".join(extra)),
        Cell(", ".join(failed) if failed else "passed", "soft" if e.soft else "", warn=bool(failed)),
    ]


def quantities(data: CampaignData) -> Table:
    """The framework's quantities per verification call; below each, theta times its term as a share of the tolerance.

    eps_V and eps_C act together (theory T2 with decisions C3), so their share stands once.
    """
    heads = (
        ("round", "cell"),
        ("L", "Å"),
        ("θ", ""),
        (Markup("ε<sub>E</sub>"), "meV"),
        (Markup("ε<sub>F</sub>"), "eV/Å"),
        (Markup("ε<sub>FC</sub>"), "eV/Å²"),
        (Markup("ε<sub>V</sub>"), "eV"),
        (Markup("ε<sub>C</sub>"), "eV"),
        (Markup("ε<sub>fold</sub>"), "eV/Å²"),
        ("γ", "eV/Å²"),
        (Markup("‖Du‖<sub>ℓ²(&gt;L)</sub>"), "Å"),
        (Markup("‖Du‖<sub>ℓ⁴(&gt;L)</sub>"), "Å"),
        ("jump", "Å"),
    )
    rows = []
    for r, e in data.estimated:
        geo = e.theta / data.tol_geo
        cells = (
            Cell(str(r.number), size_name(e.rung)),
            Cell(number(e.half_width, 2)),
            Cell(f"{e.theta:g}"),
            Cell(number(1e3 * e.eps_E, 3), _share(e.theta * abs(e.energy_core) / data.tol_energy)),
            Cell(number(e.eps_F, 5), _share(geo * e.core)),
            Cell(number(e.eps_FC), _share(geo * e.fc)),
            Cell(number(e.eps_V), _share(geo * e.v)),
            Cell(number(e.eps_C), "with V"),
            Cell(number(e.eps_fold), _share(geo * e.fold)),
            Cell(number(e.gamma), "soft" if e.soft else "", warn=e.soft),
            Cell(number(e.tail_l2)),
            Cell(number(e.tail_l4)),
            Cell(number(e.jump)),
        )
        rows.append(Row(cells))
    return Table(heads, tuple(rows))


def elastic_table(data: CampaignData) -> Table | None:
    """Elastic constants at clamped ions in GPa, None before there are strained cells."""
    both = elastic(data)
    if both is None:
        return None
    oracle, own = both
    lines: list[tuple[Any, str, float | None, float | None, int]] = [
        (Markup("C<sub>11</sub>"), "GPa", oracle.c11, own.c11, 2),
        (Markup("C<sub>12</sub>"), "GPa", oracle.c12, own.c12, 2),
        (Markup("C<sub>44</sub>"), "GPa", oracle.c44, own.c44, 2),
        ("bulk modulus", "GPa", oracle.bulk, own.bulk, 2),
        (Markup("2 C<sub>44</sub> / (C<sub>11</sub> − C<sub>12</sub>)"), "", oracle.anisotropy, own.anisotropy, 3),
        ("residual pressure", "GPa", oracle.pressure, own.pressure, 3),
    ]
    rows = []
    for name, unit, a, b, digits in lines:
        both_known = a is not None and b is not None
        gap = "" if not both_known or name == "residual pressure" or not a else f"{100 * ((b or 0) / a - 1):+.2f} %"
        rows.append(Row((Cell(name), Cell(unit), Cell(number(a, digits)), Cell(number(b, digits)), Cell(gap))))
    heads = (("quantity", ""), ("unit", ""), ("oracle", ""), ("surrogate", ""), ("difference", ""))
    return Table(heads, tuple(rows), left=2)


def shell_table(data: CampaignData) -> Table | None:
    """Displacements by neighbour shell, None before the first fit."""
    found = shells(data)
    if not found:
        return None
    heads = (
        ("shell", ""),
        ("atoms", ""),
        ("distance", "Å"),
        ("radial", "Å"),
        ("mean |u|", "Å"),
        ("largest |u|", "Å"),
        ("mean |Du|", "Å"),
    )
    rows = [
        Row(
            (
                Cell(str(k)),
                Cell(str(s.count)),
                Cell(f"{s.distance:.3f}"),
                Cell("–" if math.isnan(s.radial) else f"{s.radial:+.4f}"),
                *(Cell(number(x)) for x in (s.mean, s.largest, s.strain)),
            )
        )
        for k, s in enumerate(found, 1)
    ]
    return Table(heads, tuple(rows))


def settings(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested JSON as (dotted name, value) lines; what is unset is left out."""
    return list(_flat(data, ""))


def _flat(data: Mapping[str, Any], prefix: str) -> Sequence[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            out.append((prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return out
