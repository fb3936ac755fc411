"""Forecasts against what happened, on every history that `benchmarks/effectivity.py` keeps.

    python benchmarks/forecast.py [FOLDER]

FOLDER (default runs/effectivity) holds one file per campaign: the estimates of the rungs it verified. From each history
cut off after one rung, two, three and so on, every estimator predicts the rungs that follow. Writes docs/forecast.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from farfield.service.proposals.forecast import ENERGY, GEOMETRY, ErrorLaw, Prior, Range, error_law

ROOT = Path(__file__).parents[1]
AHEAD = 1, 2, 3
NONE = 1e-9
Row = dict[str, Any]
Predict = Callable[[Sequence[Row], Row, Row], Range]


class Score(NamedTuple):
    """Of predicted over actual: median, median and mean factor of the error, shares inside 68 % and inside twice it."""

    count: int
    ratio: float
    median: float
    mean: float
    inside: float
    twice: float


def main() -> int:
    """Score the estimators, write the page."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "effectivity"
    histories = [json.loads(f.read_text(encoding="utf-8")) for f in sorted(folder.glob("*.json"))]
    if not histories:
        print(f"no histories in {folder}; run benchmarks/effectivity.py first", file=sys.stderr)
        return 2
    names = sorted({h[0]["case"] for h in histories if h})
    lines = [
        "# Forecasts against what happened",
        "",
        f"{len(histories)} campaigns with {sum(map(len, histories))} verified rungs:",
        f"{'; '.join(names)} (levels 1 and 3, two seeds).",
        "Each history is cut off after one rung, two, three and so on, and the rungs that follow are predicted from",
        "what was known then. Rungs whose gates were closed are neither used nor predicted. Written by",
        "`python benchmarks/forecast.py`.",
        "",
        "Ratio: median of predicted / actual. Error: a factor, median and (geometric) mean over all predictions.",
        "Inside: share of actual values in the 68 % interval, and in one twice as wide (95 % if errors were normal).",
    ]
    for key, title, unit in (("eta", "eta_geo", GEOMETRY), ("eta_energy", "|eta_E|", ENERGY)):
        lines += ["", f"## {title}", ""]
        lines += ["| estimator | rungs ahead | predictions | ratio | error: median | mean | inside 68 % | twice |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for name, predict in estimators(key, unit).items():
            for ahead in AHEAD:
                s = score(histories, key, predict, ahead)
                lines.append(
                    f"| {name if ahead == 1 else ''} | {ahead} | {s.count} | {s.ratio:.2f} | {s.median:.2f} "
                    f"| {s.mean:.2f} | {100 * s.inside:.0f} % | {100 * s.twice:.0f} % |"
                )
        lines += ["", "By case, the estimator that ships, one and two rungs ahead:", ""]
        lines += [
            "| case | predictions | ratio, 1 | mean error, 1 | ratio, 2 | mean error, 2 |",
            "|---|---|---|---|---|---|",
        ]
        shipped = list(estimators(key, unit).values())[-1]
        for case in names:
            own = [h for h in histories if h and h[0]["case"] == case]
            one, two = (score(own, key, shipped, n) for n in (1, 2))
            lines.append(
                f"| {case} | {one.count} | {one.ratio:.2f} | {one.mean:.2f} | {two.ratio:.2f} | {two.mean:.2f} |"
            )
    share = left_out(histories)
    lines += [
        "",
        "## How much of it is fitted to these histories",
        "",
        "The slope, the spread and what the in-sample estimate is worth were set by looking at the same histories.",
        "With the last of them (a line through log(predicted / actual) against log(in-sample / eta), one rung ahead,",
        f"same basis) fitted to the other cases only, the mean error factor is {share[1]:.2f} on the case left out;",
        f"it is {share[2]:.2f} with the constants that ship and {share[0]:.2f} without the in-sample estimate.",
    ]
    (ROOT / "docs" / "forecast.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def estimators(key: str, prior: Prior) -> dict[str, Predict]:
    """Name -> prediction of a row from a history and the row that is the next to it. The last is the one that ships."""
    plain = replace(prior, learnt=(0.0, 0.0), growth=0.0)
    stiff, loose = replace(plain, width=1e-3), replace(plain, width=50.0, weight=1e-3)
    return {
        "the last value": lambda h, n, r: _at(h, r, key, replace(stiff, slope=0.0)),
        "slope 5, half width": lambda h, n, r: _at(h, r, key, replace(stiff, slope=5.0), narrow=True),
        f"slope {plain.slope:g}, half width": lambda h, n, r: _at(h, r, key, stiff, narrow=True),
        f"slope {plain.slope:g}": lambda h, n, r: _at(h, r, key, stiff),
        "least squares, no prior": lambda h, n, r: _at(h, r, key, loose),
        "prior and points, half width": lambda h, n, r: _at(h, r, key, plain, narrow=True),
        "prior and points": lambda h, n, r: _at(h, r, key, plain),
        "**prior, points, what the refit learnt**": lambda h, n, r: _learnt(h, n, r, key, prior),
    }


def _at(history: Sequence[Row], row: Row, key: str, prior: Prior, *, narrow: bool = False) -> Range:
    def atoms(r: Row) -> int:  # only ratios matter: unit cells, or the cube on the shortest edge
        return int(min(r["rung"]) ** 3 if narrow else np.prod(r["rung"]))

    return error_law([atoms(r) for r in history], [r[key] for r in history], prior).at(atoms(row))


def _learnt(history: Sequence[Row], following: Row, row: Row, key: str, prior: Prior) -> Range:
    """As `plan` does: it knows the basis of the next surrogate, not what becomes of it later."""
    return _law(history, following, key, prior).at(int(np.prod(row["rung"])))


def _law(history: Sequence[Row], following: Row, key: str, prior: Prior) -> ErrorLaw:
    last = history[-1]
    learnt = last["in_sample"] / last["eta"] if last["in_sample"] and last["eta"] > 0 else None
    grown = following["basis"] > last["basis"]
    cells = [int(np.prod(r["rung"])) for r in history]
    return error_law(cells, [r[key] for r in history], prior, learnt, grown=grown)


def _cuts(histories: Sequence[Sequence[Row]], ahead: int) -> list[tuple[list[Row], Row, Row]]:
    """(history, the row after it, the row `ahead` of it), wherever both ends have open gates."""
    out = []
    for rows in histories:
        for k in range(1, len(rows) - ahead + 1):
            known = [r for r in rows[:k] if not r["closed"]]
            if known and not rows[k + ahead - 1]["closed"]:
                out.append((known, rows[k], rows[k + ahead - 1]))
    return out


def score(histories: Sequence[Sequence[Row]], key: str, predict: Predict, ahead: int) -> Score:
    """Predict `ahead` rungs from every cut of every history."""
    errors, widths = [], []
    for known, following, row in _cuts(histories, ahead):
        p = predict(known, following, row)
        errors.append(np.log(p.value / max(abs(row[key]), NONE)))
        widths.append(np.log(p.high / p.value))
    e, w = np.array(errors), np.array(widths)
    size = np.abs(e)
    factors = np.exp([np.median(e), np.median(size), size.mean()])
    return Score(len(e), *map(float, factors), float((size < w).mean()), float((size < 2 * w).mean()))


def left_out(histories: Sequence[Sequence[Row]]) -> tuple[float, float, float]:
    """Mean error factors of eta_geo one rung ahead: without the in-sample estimate, with its line fitted to the other
    cases, with the constants that ship."""
    plain = replace(GEOMETRY, learnt=(0.0, 0.0), growth=0.0)
    found = [
        (known[-1]["case"], np.log(known[-1]["in_sample"] / known[-1]["eta"]), known, following)
        for known, following, _ in _cuts(histories, 1)
        if known[-1]["in_sample"] and following["basis"] == known[-1]["basis"]
    ]

    def errors(prior: Prior) -> np.ndarray[Any, Any]:
        laws = [_law(known, row, "eta", prior).at(int(np.prod(row["rung"]))).value for _, _, known, row in found]
        return np.log(laws) - np.log([max(row["eta"], NONE) for _, _, _, row in found])

    without, shipped = errors(plain), errors(GEOMETRY)
    cases, learnt = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    outside = without.copy()
    for case in set(cases):
        line = np.polyfit(learnt[cases != case], without[cases != case], 1)
        outside[cases == case] -= np.polyval(line, learnt[cases == case])
    return tuple(float(np.exp(np.abs(e).mean())) for e in (without, outside, shipped))  # type: ignore[return-value]


if __name__ == "__main__":
    sys.exit(main())
