"""Test errors against the number of functions, down to the floor that the labels set.

Weights of this comparison: energies 30 / sqrt(N) per Å, forces 1, virials 1 / sqrt(N); a campaign's own follow the far
field instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from bars import Line
from labels import MATERIALS, Label, Material, labelled
from numpy.typing import NDArray
from peers import INSTALL, missing

from farfield.service.surrogate import Basis, Rows, Triangle, bond_lengths, core_labels, design, fit, grade
from farfield.service.surrogate.basis import LEVELS

Array = NDArray[np.float64]

ONE = (*LEVELS, (16, 20, 13))
TWO = ((4, 4, 0), (5, 5, 0), LEVELS[0], (6, 7, 6), *LEVELS[1:3])
LADDERS = {"W": ONE, "W mended": ONE, "Si": ONE, "SiC": TWO, "SiC hot": TWO}
CELLS, TRAIN, FRESH = 36, 24, 144
FORCE_BAR, MOST_COLUMNS = 10.0, 150


@dataclass
class Point:
    """Test errors of one basis, one entry per split: forces in meV/Å, energies in meV/atom.

    `known` leaves out the atoms of an extrapolation grade above 1 (`apart`, their share): they sit where no training
    cell has been, and the surrogate says so. `sure` leaves out the cells whose energy per atom has a larger posterior
    standard deviation than that of any cell in training.
    """

    columns: int
    forces: list[float] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    sure: list[float] = field(default_factory=list)

    def add(self, test: Test) -> None:
        """The errors of one split."""
        square = test.square.ravel()
        self.forces.append(rms(np.sqrt(square)))
        self.known.append(rms(np.sqrt(square[~test.apart])))
        self.apart.append(float(np.mean(test.apart)))
        self.energies.append(rms(test.energies))
        self.sure.append(rms(test.energies[~test.unsure]))


@dataclass(frozen=True)
class Test:
    """`square` (atoms,) mean squared error of a component of each atom's force, (eV/Å)^2; `apart` (atoms,) mask;
    `energies` (cells,) errors per atom, eV; `unsure` (cells,) mask."""

    square: Array
    apart: NDArray[np.bool_]
    energies: Array
    unsure: NDArray[np.bool_]


@dataclass
class Curve:
    """The ladder of one material. `more`: its largest basis trained on `fresh` other cells, same tests.

    `floor` (W alone): what the step in the potential's table adds to the labels of the tests, meV/Å and meV/atom.
    """

    material: Material
    points: list[Point]
    more: Point
    labels: list[Label]
    fresh: int
    floor: tuple[list[float], list[float]] | None = None


def splits(count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Random training and test cells."""
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(CELLS).tolist()
        yield order[:TRAIN], order[TRAIN:]


class Fitted:
    """A fit to labelled cells; one mean energy per atom is taken off first."""

    def __init__(self, basis: Basis, labels: Sequence[Label], rows: Sequence[Rows], block: int = 12) -> None:
        self.basis = basis
        self.offset = float(np.mean([t.energy / len(t.atoms) for t in labels]))
        triangles = {kind: Triangle(basis.size) for kind in "EFV"}
        for start in range(0, len(labels), block):
            found: dict[str, list[tuple[Array, Array]]] = {kind: [] for kind in "EFV"}
            for label, row in zip(labels[start : start + block], rows[start : start + block], strict=True):
                n = len(label.atoms)
                scale = 30 / n**0.5
                energy, forces, virial = core_labels(basis, label.atoms)
                energy = label.energy - energy - self.offset * n
                found["E"].append((scale * row.energy[None], np.array([scale * energy])))
                found["F"].append((row.forces, (label.forces - forces).ravel()))
                found["V"].append((row.virial / n**0.5, (label.virial - virial) / n**0.5))
            for kind, pairs in found.items():
                triangles[kind].add(np.concatenate([A for A, _ in pairs]), np.concatenate([y for _, y in pairs]))
        self.posterior = fit(triangles, {"E": 1.0, "F": 1.0, "V": 1.0}, basis.prior, basis.one_body)
        self.widest = max(self._variance(row) for row in rows)

    def _variance(self, row: Rows) -> float:
        """Of the energy per atom."""
        return self.posterior.quadratic(row.energy) / (len(row.forces) / 3) ** 2

    def test(self, labels: Sequence[Label], rows: Sequence[Rows]) -> Test:
        """Errors of other cells."""
        c = self.posterior.mean
        square, apart, energies, unsure = [], [], [], []
        for label, row in zip(labels, rows, strict=True):
            energy, forces, _ = core_labels(self.basis, label.atoms)
            error = (row.forces @ c).reshape(-1, 3) + forces - label.forces
            square.append((error**2).mean(1))
            apart.append(grade(self.posterior, self.basis, label.atoms).sites > 1)
            unsure.append(self._variance(row) > self.widest)
            energies.append((row.energy @ c + energy - label.energy) / len(label.atoms) + self.offset)
        return Test(np.concatenate(square), np.concatenate(apart), np.array(energies), np.array(unsure))


def curve(name: str, quick: bool = False) -> Curve:
    """All fits of one material."""
    material = MATERIALS[name]
    labels = labelled(material, CELLS, seed=0)
    fresh = labelled(material, 36 if quick else FRESH, seed=1)
    sets = list(splits(1 if quick else 5))
    points = []
    for degrees in LADDERS[name][: 4 if quick else None]:
        basis = Basis(material.species, material.cutoff, distances(material), degrees)
        rows = [design(basis, label.atoms) for label in labels]
        point = Point(basis.size)
        for train, test in sets:
            found = Fitted(basis, [labels[k] for k in train], [rows[k] for k in train])
            point.add(found.test([labels[k] for k in test], [rows[k] for k in test]))
        points.append(point)
    large = Fitted(basis, fresh, [design(basis, label.atoms) for label in fresh])
    more = Point(basis.size)
    for _, test in sets:
        more.add(large.test([labels[k] for k in test], [rows[k] for k in test]))
    return Curve(material, points, more, labels, len(fresh), step(labels, sets) if name == "W" else None)


def distances(material: Material) -> float | tuple[tuple[float, ...], ...]:
    """Nearest distances as a campaign gives them to the basis."""
    if len(material.species) == 1:
        return material.r0
    bond = material.species[0], material.species[1]
    return bond_lengths(material.species, bond, material.r0)


def step(labels: list[Label], sets: list[tuple[list[int], list[int]]]) -> tuple[list[float], list[float]]:
    """Rms difference of the test labels of W from those of the mended table: forces (meV/Å), energies (meV/atom)."""
    mended = labelled(MATERIALS["W mended"], CELLS, seed=0)
    forces = [(a.forces - b.forces).ravel() for a, b in zip(labels, mended, strict=True)]
    energies = np.array([(a.energy - b.energy) / len(a.atoms) for a, b in zip(labels, mended, strict=True)])
    return (
        [rms(np.concatenate([forces[k] for k in test])) for _, test in sets],
        [rms(energies[test]) for _, test in sets],
    )


def rms(values: Array) -> float:
    """In thousandths."""
    return 1e3 * float(np.sqrt(np.mean(np.square(values))))


def accuracy_lines(curves: dict[str, Curve]) -> Iterator[Line]:
    """The bar: test forces with at most 150 functions; and what the largest basis reaches."""
    if not curves:
        reason = missing().get("LAMMPS", "")
        yield Line("test forces, 24 training cells", f"not measured: {reason}; {INSTALL}", f"{FORCE_BAR:.0f} meV/Å")
    for name in [n for n in ("W", "Si", "SiC") if n in curves]:
        found = curves[name]
        one = len(found.material.species) == 1
        allowed = [p for p in found.points if p.columns <= MOST_COLUMNS * (1 if one else 2)]
        best = allowed[-1]
        judged = name != "SiC"
        yield Line(
            f"test forces, {TRAIN} training cells, {found.material.title}, {best.columns} columns"
            + ("" if one else " (half for each species of centre)"),
            f"{median(best.forces):.1f} meV/Å (worst split {max(best.forces):.1f})",
            f"{FORCE_BAR:.0f} meV/Å" if judged else "",
            max(best.forces) < FORCE_BAR if judged else None,
        )


def tables(curves: dict[str, Curve]) -> list[str]:
    """Markdown: one table per material."""
    lines = []
    for found in curves.values():
        m = found.material
        lines += [
            "",
            f"### {m.title}",
            "",
            f"Cutoff {m.cutoff} Å; rattle {m.rattle[0]} to {m.rattle[1]} Å, strain up to {100 * m.strain:g} %; "
            f"rms force {force_rms(found.labels):.2f} eV/Å.",
        ]
        if any(m.switch):
            pairs = m.switched([label.atoms for label in found.labels])
            lines.append(f"Si pairs inside the potential's switch, {m.switch[0]} to {m.switch[1]} Å: {pairs}.")
        lines += [
            "",
            "| columns | test forces, meV/Å | of atoms in the sampled range | atoms outside "
            "| test energies, meV/atom | of cells in the sampled range |",
            "|---|---|---|---|---|---|",
        ]
        for title, p in [
            *((str(p.columns), p) for p in found.points),
            (f"{found.more.columns}, {found.fresh} other cells", found.more),
        ]:
            lines.append(
                f"| {title} | {spread(p.forces, 1)} | {spread(p.known, 1)} | {100 * median(p.apart):.1f} % "
                f"| {spread(p.energies, 3)} | {spread(p.sure, 3)} |"
            )
        if found.floor:
            forces, energies = found.floor
            lines.append(f"| floor: the step alone | {spread(forces, 1)} | | | {spread(energies, 3)} | |")
    return lines


def force_rms(labels: Sequence[Label]) -> float:
    """Of a component, eV/Å."""
    return float(np.sqrt(np.mean(np.concatenate([label.forces.ravel() for label in labels]) ** 2)))


def spread(values: list[float], digits: int) -> str:
    """Median (least to most)."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
