"""A reference program of the standard library alone: a smooth pair potential, extended XYZ in, extended XYZ out.

Run as ``python -S pair_program.py FAULT INPUT OUTPUT NATOMS``; FAULT says what goes wrong, "none" for nothing.
"""

from __future__ import annotations

import itertools
import os
import re
import sys

CUTOFF = 3.5
Vector = list[float]


def text(numbers: Vector) -> str:
    """17 digits, so that nothing is lost on the way."""
    return " ".join(f"{x:.17g}" for x in numbers)


def inverse(m: list[Vector]) -> list[Vector]:
    """Of a 3x3 matrix, by cofactors."""

    def cofactor(i: int, j: int) -> float:
        a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
        return m[a][c] * m[b][d] - m[a][d] * m[b][c]

    det = sum(m[0][j] * cofactor(0, j) for j in range(3))
    return [[cofactor(j, i) / det for j in range(3)] for i in range(3)]


def label(positions: list[Vector], cell: list[Vector]) -> tuple[float, list[Vector], list[Vector]]:
    """E (eV), F (eV/Å) and the virial tensor -dE/d(strain) (eV) of w(r) = (1 - (r/rc)^2)^3 between all pairs."""
    n, back = len(positions), inverse(cell)
    energy, forces, virial = 0.0, [[0.0] * 3 for _ in range(n)], [[0.0] * 3 for _ in range(3)]
    for i, j in itertools.product(range(n), repeat=2):
        d = [positions[j][x] - positions[i][x] for x in range(3)]
        s = [sum(d[x] * back[x][y] for x in range(3)) for y in range(3)]
        s = [x - round(x) for x in s]
        for hop in itertools.product((-1, 0, 1), repeat=3):
            r = [sum((s[x] + hop[x]) * cell[x][y] for x in range(3)) for y in range(3)]
            u = sum(x * x for x in r) / CUTOFF**2
            if (i != j or any(hop)) and u < 1:
                energy += 0.5 * (1 - u) ** 3
                pull = -6 * (1 - u) ** 2 / CUTOFF**2  # dw/dr / r
                for x in range(3):
                    forces[i][x] += pull * r[x]
                    for y in range(3):
                        virial[x][y] -= 0.5 * pull * r[x] * r[y]
    return energy, forces, virial


def main(fault: str, source: str, target: str, natoms: str) -> None:
    """Read, compute, write, or do what `fault` says."""
    with open(source, encoding="utf-8") as file:
        count, comment, *rows = file.read().splitlines()
    lattice = re.search('Lattice="([^"]*)"', comment)
    assert lattice is not None
    flat = [float(x) for x in lattice[1].split()]
    cell = [flat[k : k + 3] for k in (0, 3, 6)]
    symbols = [row.split()[0] for row in rows]
    places = [[float(x) for x in row.split()[1:4]] for row in rows]
    assert int(count) == int(natoms) == len(rows)
    print("working on", count, "atoms", flush=True)
    if fault == "exit":
        print("no licence", file=sys.stderr)
        sys.exit(9)
    if fault == "cycles":
        sys.exit(3)
    if fault == "abort":
        os.abort()
    if fault == "silent":
        return
    energy, forces, virial = label(places, cell)
    volume = abs(1 / _det(inverse(cell)))
    sign = 1 if fault == "compression" else -1
    tensor = [x for row in virial for x in row]
    given = f'stress="{text([sign * x / volume for x in tensor])}"'
    if fault == "no stress":
        given = ""
    if fault == "virial":
        given = f'virial="{text(tensor)}"'
    if fault == "skewed":
        given = 'virial="0 1 0 2 0 0 0 0 0"'
    if fault == "loose":
        given += " converged=F"
    if fault == "smeared":
        given += f" free_energy={energy - 0.5:.17g}"
    if fault == "fewer":
        symbols.pop()
    if fault == "species":
        symbols[0] = "Ag"
    if fault == "order":
        places.reverse()
    if fault == "relaxed":
        places[0][0] += 0.01
    if fault == "strained":
        cell = [[1.01 * x for x in row] for row in cell]
    if fault == "nan":
        forces[0][0] = float("nan")
    if fault == "wrapped":
        places[0] = [x + y for x, y in zip(places[0], cell[0], strict=True)]
    head = f'Lattice="{text([x for row in cell for x in row])}" Properties=species:S:1:pos:R:3:forces:R:3'
    lines = [str(len(symbols)), f"{head} energy={energy:.17g} {given}"]
    lines += [f"{s} {text(p + f)}" for s, p, f in zip(symbols, places, forces, strict=False)]
    if fault == "words":
        lines[1] = f"{head} energy=low"
    if fault == "pairs":
        lines[1] = lines[1].replace("forces:R:3", "forces:R:2:rest:R:1")
    if fault == "garbage":
        lines = ["4", "hello", "Cu 1"]
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(lines * (2 if fault == "frames" else 1)) + "\n")


def _det(m: list[Vector]) -> float:
    return sum(
        m[0][i] * (m[1][(i + 1) % 3] * m[2][(i + 2) % 3] - m[1][(i + 2) % 3] * m[2][(i + 1) % 3]) for i in range(3)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
