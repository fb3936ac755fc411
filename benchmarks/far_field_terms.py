"""The V tail and the folding term: norm forms (theory.md T2) against assembled forces, with the truth known.

    python benchmarks/far_field_terms.py [seeds]

Writes docs/far_field_terms.md. Both forms are taken from the same runs, so their ratio does not depend on the machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
from rehearsal import Round, rehearse

from farfield.oracles.emt import EMTOracle

CASES = {
    "Cu vacancy": {"host": {"species": ["Cu"]}},
    "Al vacancy": {"host": {"species": ["Al"]}},
    "Pd vacancy": {"host": {"species": ["Pd"]}},
    "Cu octahedral interstitial": {
        "host": {"species": ["Cu"]},
        "defect": {"kind": "interstitial", "position": "octahedral"},
        "target": {"tol_geo": 0.05},
    },
    "Cu <100> dumbbell": {
        "host": {"species": ["Cu"]},
        "defect": {"kind": "interstitial", "position": "dumbbell-100"},
        "target": {"tol_geo": 0.05},
    },
}


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    lines = [
        "# The V tail and the folding term: norm form against assembled force",
        "",
        f"ASE's EMT, target 6x6x6, basis level 1, {seeds} seeds a case; by `benchmarks/far_field_terms.py`. `eta`",
        "is the estimate as the campaign uses it, `eta (norm forms)` the same with the scalar terms of T2.",
        "",
        "| case | rounds | eta / true: median (range) | eta (norm forms) / true | V: norm / assembled "
        "| folding: norm / assembled | eta_E / true, where the truth is above 1 meV |",
        "|---|---|---|---|---|---|---|",
    ]
    everything: list[Round] = []
    for case, values in CASES.items():
        rounds = []
        for seed in range(seeds):
            config = {"surrogate": {"level": 1}, **values, "campaign": {"seed": seed}}
            rounds += [r for r in rehearse(EMTOracle(), config) if r.estimate.believed]
            print(f"{case}, seed {seed}: {len(rounds)} rounds so far", flush=True)
        lines.append(row(case, rounds))
        everything += rounds
    lines.append(row("all", everything))
    path = Path(__file__).parents[1] / "docs" / "far_field_terms.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def row(case: str, rounds: list[Round]) -> str:
    ours = [r.estimate.eta_geo / r.true_geometry for r in rounds]
    norm = [(r.estimate.assembled + r.estimate.bound_v + r.estimate.bound_fold) / r.true_geometry for r in rounds]
    v = [r.estimate.bound_v / r.estimate.v for r in rounds if r.estimate.v > 0]
    fold = [r.estimate.bound_fold / r.estimate.fold for r in rounds if r.estimate.fold > 0]
    energy = [r.estimate.eta_energy / r.true_energy for r in rounds if abs(r.true_energy) > 1e-3]
    cells = [case, str(len(rounds)), *(spread(x) for x in (ours, norm, v, fold, energy))]
    return "| " + " | ".join(cells) + " |"


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
