"""The product's loop as it is now against the baselines of docs/cost.md, whose own runs take hours.

    python benchmarks/cost.py --strategies guided --no-page     # keeps its runs in runs/cost/
    python benchmarks/costnow.py

Reads the kept runs of "guided" and the baselines' medians in docs/cost.md; writes docs/cost_now.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from costpage import BARS, FAMILIES, held, total

ROOT = Path(__file__).parents[1]
SECTIONS = {"## p = 2": 2.0, "## p = 2.5": 2.5, "## p = 3": 3.0}


def main() -> int:
    """Write the page; 1 where a bar is missed."""
    files = sorted((ROOT / "runs" / "cost").glob("*-guided-*.json"))
    rows: list[dict[str, Any]] = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    rows = [r for r in rows if r["strategy"] == "guided"]
    seeds = sorted({r["seed"] for r in rows})
    lines = [
        "# Cost: the loop as it is now",
        "",
        "The loop of [cost.md](cost.md) has since come to buy force constants from non-diagonal cells",
        "([nondiagonal.md](nondiagonal.md)), one first cell in place of two, and strained cells only with the first",
        f"estimate. Its runs since, seeds {', '.join(map(str, seeds))} as far as they have run, against the medians",
        "over five seeds of the best variant of each baseline in that page. Their code has not changed but for the",
        "price of force constants in `random`. Where neither reached the error there is no ratio; where only the",
        "baseline did it counts as 0. Fe was touched by no development run.",
        "Written by `python benchmarks/costnow.py`.",
        "",
    ]
    missed = False
    for title, p in SECTIONS.items():
        known = baselines(title)
        columns = [c for c in known["guided"] if any((r["system"], r["tolerance"]) == c for r in rows)]
        ours = {c: [held(r, c[1], p) for r in rows if (r["system"], r["tolerance"]) == c] for c in columns}
        lines += [title, "", "| strategy | " + " | ".join(f"{s}, e <= {e:g} Å" for s, e in columns) + " |"]
        lines.append("|---|" + "---|" * len(columns))
        lines.append("| guided, now | " + " | ".join(entry(ours[c]) for c in columns) + " |")
        lines.append("| guided, before | " + " | ".join(figure(known["guided"][c]) for c in columns) + " |")
        for family in FAMILIES:
            lines.append(f"| {family} | " + " | ".join(figure(known[f"{family} (best)"][c]) for c in columns) + " |")
        lines.append("")
        if p == 2.0:
            bars = ["| against | times cheaper, median over systems and errors | demanded | |", "|---|---|---|---|"]
            for name, bar in BARS.items():
                pairs = [(known[name][c], float(np.median(ours[c]))) for c in columns]
                x = float(np.median([a / b for a, b in pairs if np.isfinite([a, b]).any()]))
                missed |= x < bar
                bars.append(f"| {name} | {x:.2g} | {bar:g} | {'met' if x >= bar else 'MISSED'} |")
            growth = known["growth (best)"]
            stops = [
                "| system, tolerance | met its tolerance | true error / tolerance: median (max) | stop cost / growth |"
            ]
            stops.append("|---|---|---|---|")
            for s, e in columns:
                mine = [r for r in rows if (r["system"], r["tolerance"]) == (s, e)]
                errors = [r["steps"][-1]["true"] / e for r in mine]
                good = sum(r["end"].startswith("tolerance met") and x <= 1 for r, x in zip(mine, errors, strict=True))
                ratio = float(np.median([total(r, p) for r in mine])) / growth[s, e]
                told = f"{ratio:.2f}" if np.isfinite(growth[s, e]) else "growth never"
                stops.append(
                    f"| {s}, {e:g} Å | {good} of {len(mine)} | {np.median(errors):.2f} ({max(errors):.2f}) | {told} |"
                )
    lines += ["## Bars (p = 2)", "", *bars, "", "## Stops (p = 2; demanded: at most 1.5)", "", *stops, ""]
    (ROOT / "docs" / "cost_now.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
    return int(missed)


def baselines(title: str) -> dict[str, dict[tuple[str, float], float]]:
    """Medians of a table of docs/cost.md, by strategy and (system, error)."""
    text = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    table = text.split(f"{title}\n", 1)[1].split("\n## ", 1)[0].strip().splitlines()
    heads = [h.strip() for h in table[0].strip("|").split("|")][1:]
    columns = [(h.split(",")[0], float(h.split("<=")[1].split()[0])) for h in heads]
    out = {}
    for line in table[2:]:
        name, *cells = [c.strip() for c in line.strip("|").split("|")]
        values = [np.inf if c.startswith("not") else np.nan if c == "-" else float(c.split()[0]) for c in cells]
        out[name] = dict(zip(columns, values, strict=True))
    return out


def entry(values: list[float]) -> str:
    """Median and range."""
    middle = float(np.median(values))
    return f"{figure(middle)} ({figure(min(values))} to {figure(max(values))})"


def figure(value: float) -> str:
    """A cost, or that there is none."""
    return "never" if np.isinf(value) else "-" if np.isnan(value) else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
