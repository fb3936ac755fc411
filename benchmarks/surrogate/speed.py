"""Process CPU of rows, of the evaluator and of a refit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from bars import Line, race
from peers import INSTALL, SnapForces, SnapRows, Soap, missing

from farfield.service.surrogate import (
    Basis,
    Posterior,
    Rows,
    Surrogate,
    Triangle,
    bond_lengths,
    design,
    fit,
    force_constant_rows,
    neighbours,
)

CUTOFF, DEGREES = 5.0, (16, 16, 12)


def tungsten(repeats: int, vacancy: bool = False, rattle: float = 0.05, seed: int = 0) -> Atoms:
    """A rattled bcc supercell."""
    atoms = bulk("W", a=3.165, cubic=True).repeat(repeats)
    if vacancy:
        del atoms[0]
    atoms.rattle(rattle, seed=seed)
    return atoms


def basis() -> Basis:
    """About 295 functions."""
    return Basis(("W",), CUTOFF, 2.74, DEGREES)


def compound() -> Basis:
    """About as many for SiC, half of them for each species of centre."""
    return Basis(("Si", "C"), CUTOFF, bond_lengths(("Si", "C"), ("Si", "C"), 1.888), (6, 7, 6))


def rows_lines(rounds: int) -> Iterator[Line]:
    """E+F+V rows of 127 atoms against the peers."""
    atoms, ours = tungsten(4, vacancy=True), basis()
    absent = missing()
    pairs = neighbours(ours, atoms)
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: design(ours, atoms),
        "listed": lambda: design(ours, atoms, pairs=pairs),
    }
    if "featomic" not in absent:
        soap, wider = Soap(atoms, CUTOFF, 7, 5), Soap(atoms, CUTOFF, 8, 5)
        runs["soap"] = soap.gradients
        runs["soap wider"] = wider.gradients
        runs["soap without virials"] = lambda: soap.gradients(strain=False)
        runs["soap rows"] = soap.rows
    if "LAMMPS" not in absent:
        quadratic, linear = SnapRows(atoms, CUTOFF, 6, quadratic=True), SnapRows(atoms, CUTOFF, 8, quadratic=False)
        runs |= {"qSNAP": quadratic.rows, "SNAP": linear.rows}
    cpu = race(runs, rounds)
    own = cpu["ours"]
    where = f"E+F+V rows, W {len(atoms)} atoms, {CUTOFF} Å"
    aim = f"aim 6 ms: {'reached' if own <= 6e-3 else 'not reached'}"
    yield Line(f"{where}, {ours.size} columns", f"{1e3 * own:.2f} ms, {1e6 * own / len(atoms):.0f} µs/atom", aim)
    if "featomic" in absent:
        yield Line("... against featomic", f"not measured: {absent['featomic']}; {INSTALL}", "8x")
    else:
        size = f"{soap.columns} columns, {soap.distinct} of them distinct"
        x = cpu["soap"] / own
        what = f"... featomic SoapPowerSpectrum, {size}: position and strain gradients, not yet summed"
        yield Line(what, f"{1e3 * cpu['soap']:.1f} ms, {x:.1f}x", "8x", x >= 8)
        for name, what in (
            ("soap wider", f"the same, {wider.columns} columns, {wider.distinct} distinct"),
            ("soap without virials", f"{soap.columns} columns, position gradients alone: no virials"),
            ("soap rows", f"{soap.columns} columns, summed to the same rows"),
        ):
            yield Line(f"... {what}", f"{1e3 * cpu[name]:.1f} ms, {cpu[name] / own:.1f}x")
    if "LAMMPS" in absent:
        yield Line("... against LAMMPS", f"not measured: {absent['LAMMPS']}; {INSTALL}", "3x")
    else:
        x = cpu["qSNAP"] / cpu["listed"]
        what = f"... LAMMPS compute snap, 2J=6 quadratic, {quadratic.columns} columns, neighbour list given to both"
        said = f"{1e3 * cpu['qSNAP']:.1f} ms, {x:.1f}x (ours {1e3 * cpu['listed']:.2f} ms)"
        yield Line(what, said, "3x", x >= 3)
        what = f"... LAMMPS compute snap, 2J=8 linear, {linear.columns} columns, the same way"
        yield Line(what, f"{1e3 * cpu['SNAP']:.1f} ms, {cpu['SNAP'] / cpu['listed']:.1f}x")


def other_rows_lines(rounds: int) -> Iterator[Line]:
    """Rows of other hosts and a force-constant column, without a bar."""
    silicon = bulk("Si", a=5.431, cubic=True).repeat(3)
    del silicon[0]
    silicon.rattle(0.05, seed=0)
    carbide = bulk("SiC", "zincblende", a=4.36, cubic=True).repeat(3)
    carbide.rattle(0.03, seed=0)
    crystal = tungsten(4, rattle=0.0)
    one, two, ours = Basis(("Si",), 5.5, 2.352, DEGREES), compound(), basis()
    cpu = race(
        {
            "Si": lambda: design(one, silicon),
            "SiC": lambda: design(two, carbide),
            "FC": lambda: force_constant_rows(ours, crystal, 0, (1, 0, 0), 0.01),
            "W": lambda: design(ours, crystal),
        },
        rounds,
    )
    yield Line(f"E+F+V rows, Si {len(silicon)} atoms, 5.5 Å, {one.size} columns", f"{1e3 * cpu['Si']:.1f} ms")
    yield Line(f"E+F+V rows, SiC {len(carbide)} atoms, {CUTOFF} Å, {two.size} columns", f"{1e3 * cpu['SiC']:.1f} ms")
    yield Line(
        f"rows of a force-constant column, W {len(crystal)} atoms, both displacements",
        f"{1e3 * cpu['FC']:.1f} ms, {cpu['FC'] / cpu['W']:.2f} of one cell's rows",
    )


def evaluator_lines(rounds: int) -> Iterator[Line]:
    """Energy, forces and stress of 2000 atoms, neighbour list included."""
    atoms, ours = tungsten(10), basis()
    surrogate = Surrogate(ours, 1 / ours.prior)
    kept = surrogate.evaluator(atoms.get_chemical_symbols(), np.asarray(atoms.cell))
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: surrogate.evaluate(atoms),
        "kept": lambda: kept(atoms.positions),
    }
    absent = missing()
    if "LAMMPS" not in absent:
        snap = SnapForces(atoms, CUTOFF, 8)
        runs["SNAP"] = snap.evaluate
    cpu = race(runs, rounds)
    what = f"energy, forces, stress, W {len(atoms)} atoms, {ours.size} columns, neighbour list included"
    yield Line(what, f"{1e3 * cpu['ours']:.1f} ms, {1e6 * cpu['ours'] / len(atoms):.1f} µs/atom")
    yield Line("... with the list kept (skin 0.5 Å)", f"{1e3 * cpu['kept']:.1f} ms")
    if "LAMMPS" in absent:
        yield Line("... against LAMMPS", f"not measured: {absent['LAMMPS']}; {INSTALL}", "within 2x")
    else:
        x = cpu["ours"] / cpu["SNAP"]
        what = f"... LAMMPS pair_style snap, 2J=8, {snap.columns} columns, neighbour list included"
        yield Line(what, f"{1e3 * cpu['SNAP']:.0f} ms, we take {x:.2f} of it", "within 2x", x <= 2)


class Record:
    """Triangles of E, F and V of `count` rattled 128-atom cells, as a campaign keeps them.

    `distinct` cells are designed, in blocks; more come from the same rows with labels of their own.
    """

    def __init__(self, ours: Basis, count: int, distinct: int = 250, block: int = 25) -> None:
        self.basis = ours
        self.count = count
        self.triangles = {kind: Triangle(ours.size) for kind in "EFV"}
        self._rng = np.random.default_rng(count)
        self._truth = 1 / ours.prior
        blocks: list[list[Rows]] = []
        for start in range(0, min(count, distinct), block):
            seeds = range(start, min(start + block, count, distinct))
            blocks.append([design(ours, tungsten(4, rattle=0.02 + 0.06 * s / distinct, seed=s)) for s in seeds])
        done = 0
        while done < count:
            for cells in blocks:
                chosen = cells[: count - done]
                done += len(chosen)
                if chosen:
                    self._add(self.triangles, chosen)

    def _add(self, triangles: dict[str, Triangle], cells: list[Rows]) -> None:
        for kind, rows, scale in (
            ("E", np.array([c.energy for c in cells]), 1e-3),
            ("F", np.concatenate([c.forces for c in cells]), 1e-2),
            ("V", np.concatenate([c.virial for c in cells]) / 128, 1e-3),
        ):
            triangles[kind].add(rows, rows @ self._truth + scale * self._rng.normal(size=len(rows)))

    def refit(self, new: Rows) -> Posterior:
        """One more cell, other weights; the record itself stays as it is."""
        triangles = {kind: t.copy() for kind, t in self.triangles.items()}
        self._add(triangles, [new])
        weights = {"E": 5.0, "F": 1.0, "V": float(self._rng.uniform(0.1, 1.0))}
        return fit(triangles, weights, self.basis.prior, self.basis.one_body)


def refit_lines(rounds: int, history: int) -> Iterator[Line]:
    """One more cell and a fit with changed weights, for a short and a long record."""
    ours = basis()
    short, long = Record(ours, 50), Record(ours, history)
    new = design(ours, tungsten(4, seed=10_000))
    cpu = race({"short": lambda: short.refit(new), "long": lambda: long.refit(new)}, rounds)
    what = f"refit with changed weights after one more 128-atom cell, {ours.size} columns"
    yield Line(f"{what}, {short.count} cells", f"{cpu['short']:.3f} s", "0.2 s", cpu["short"] < 0.2)
    x = cpu["long"] / cpu["short"]
    yield Line(
        f"... {long.count} cells", f"{cpu['long']:.3f} s, {x:.2f}x", "0.2 s and 1.2x", cpu["long"] < 0.2 and x <= 1.2
    )
