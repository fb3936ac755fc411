"""The fast path against the plain reference, finite differences and the symmetries; relative, max|a - b| / max|b|."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk
from bars import Line, difference
from speed import DEGREES

from farfield.oracles.observation import VOIGT
from farfield.service.surrogate import (
    Basis,
    Rows,
    Surrogate,
    bond_lengths,
    core_labels,
    design,
    force_constant_rows,
    reference,
)


def cases() -> dict[str, tuple[Basis, Atoms]]:
    """A bcc cell smaller than twice the cutoff and a two-species cell, each with a vacancy."""
    tungsten = bulk("W", a=3.165, cubic=True).repeat(3)
    carbide = bulk("SiC", "zincblende", a=4.36, cubic=True).repeat(2)
    found = {}
    for name, ours, atoms in (
        ("W", Basis(("W",), 5.0, 2.74, DEGREES), tungsten),
        ("SiC", Basis(("Si", "C"), 4.5, bond_lengths(("Si", "C"), ("Si", "C"), 1.888), (6, 7, 6)), carbide),
    ):
        del atoms[0]
        atoms.rattle(0.06, seed=1)
        found[name] = (ours, atoms)
    return found


def exactness_lines() -> Iterator[Line]:
    """One line per law, the worst over the cases."""
    for what, law, bar in (
        ("rows against the plain numpy reference", against_reference, 1e-12),
        ("evaluator against the plain numpy reference", evaluator_against_reference, 1e-12),
        (
            "evaluator's F and V against central differences of its E, two atoms inside the core",
            evaluator_differences,
            1e-6,
        ),
        ("F rows against central differences of E rows", force_differences, 1e-6),
        ("V rows against central differences of E rows under strain", virial_differences, 1e-6),
        ("FC rows against fourth-order differences of F rows", force_constant_differences, 1e-6),
        ("rows after a rotation", after_rotation, 1e-12),
        ("rows after a permutation", after_permutation, 1e-12),
        ("rows after a translation", after_translation, 1e-12),
        ("rows after wrapping into the cell", after_wrapping, 1e-12),
    ):
        worst = {name: law(*case) for name, case in cases().items()}
        said = ", ".join(f"{name} {x:.0e}" for name, x in worst.items())
        yield Line(what, said, f"{bar:.0e}", max(worst.values()) <= bar)


def rows_difference(a: Rows, b: Rows) -> float:
    """The largest of the three."""
    return max(difference(a.energy, b.energy), difference(a.forces, b.forces), difference(a.virial, b.virial))


def against_reference(ours: Basis, atoms: Atoms) -> float:
    return rows_difference(design(ours, atoms), reference.design(ours, atoms))


def evaluator_against_reference(ours: Basis, atoms: Atoms) -> float:
    rows = reference.design(ours, atoms)
    c = np.random.default_rng(0).normal(size=ours.size) / ours.prior
    energy, forces, virial = core_labels(ours, atoms)
    E, F, V = Surrogate(ours, c).evaluate(atoms)
    pairs = (
        (E, rows.energy @ c + energy),
        (F.ravel(), rows.forces @ c + forces.ravel()),
        (V, rows.virial @ c + virial),
    )
    return max(difference(a, b) for a, b in pairs)


def evaluator_differences(ours: Basis, atoms: Atoms, h: float = 1e-4) -> float:
    surrogate = Surrogate(ours, np.random.default_rng(0).normal(size=ours.size) / ours.prior)
    squeezed = atoms.copy()
    squeezed.set_distance(0, int(np.argsort(atoms.get_distances(0, range(len(atoms)), mic=True))[1]), 1.5, mic=True)
    _, F, V = surrogate.evaluate(squeezed)
    found = []
    for site in range(0, len(atoms), 9):
        for x in range(3):
            sides = [surrogate.evaluate(displaced(squeezed, site, x, s * h))[0] for s in (1, -1)]
            found.append((sides[1] - sides[0]) / (2 * h))
    virial = [[surrogate.evaluate(strained(squeezed, x, y, s * h / 10))[0] for s in (1, -1)] for x, y in VOIGT]
    return max(difference(found, F[::9].ravel()), difference([(b - a) / (2 * h / 10) for a, b in virial], V))


def displaced(atoms: Atoms, site: int, x: int, by: float) -> Atoms:
    moved = atoms.copy()
    moved.positions[site, x] += by
    return moved


def strained(atoms: Atoms, x: int, y: int, by: float) -> Atoms:
    strain = np.eye(3)
    strain[x, y] += by / 2
    strain[y, x] += by / 2
    found = atoms.copy()
    found.set_cell(atoms.cell @ strain, scale_atoms=True)
    return found


def force_differences(ours: Basis, atoms: Atoms, h: float = 2e-4) -> float:
    where = [(site, x) for site in range(0, len(atoms), 9) for x in range(3)]
    exact = design(ours, atoms).forces
    found = []
    for site, x in where:
        sides = [design(ours, displaced(atoms, site, x, sign * h)).energy for sign in (1, -1)]
        found.append((sides[1] - sides[0]) / (2 * h))
    return difference(found, [exact[3 * site + x] for site, x in where])


def virial_differences(ours: Basis, atoms: Atoms, h: float = 1e-5) -> float:
    found = []
    for x, y in VOIGT:
        sides = [design(ours, strained(atoms, x, y, sign * h)).energy for sign in (1, -1)]
        found.append((sides[1] - sides[0]) / (2 * h))
    return difference(found, design(ours, atoms).virial)


def force_constant_differences(ours: Basis, atoms: Atoms, h: float = 1e-3) -> float:
    direction = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)
    rows = {}
    for k in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions[3] += k * h * direction
        rows[k] = design(ours, moved).forces
    fourth = -(8 * (rows[1] - rows[-1]) - (rows[2] - rows[-2])) / (12 * h)
    return difference(force_constant_rows(ours, atoms, 3, direction, h / 10), fourth)


def after_rotation(ours: Basis, atoms: Atoms) -> float:
    rng = np.random.default_rng(2)
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    Q *= np.sign(np.linalg.det(Q))
    turned = atoms.copy()
    turned.set_cell(atoms.cell @ Q.T)
    turned.positions = atoms.positions @ Q.T
    a, b = design(ours, turned), design(ours, atoms)
    n, K = len(atoms), ours.size
    forces = np.einsum("xy,nyk->nxk", Q, b.forces.reshape(n, 3, K)).reshape(3 * n, K)
    full = np.zeros((3, 3, K))
    for k, (x, y) in enumerate(VOIGT):
        full[x, y] = full[y, x] = b.virial[k]
    full = np.einsum("xa,yb,abk->xyk", Q, Q, full)
    return rows_difference(a, Rows(b.energy, forces, np.array([full[x, y] for x, y in VOIGT])))


def after_permutation(ours: Basis, atoms: Atoms) -> float:
    order = np.random.default_rng(3).permutation(len(atoms))
    a, b = design(ours, atoms[order]), design(ours, atoms)
    forces = b.forces.reshape(len(atoms), 3, -1)[order].reshape(b.forces.shape)
    return rows_difference(a, Rows(b.energy, forces, b.virial))


def after_translation(ours: Basis, atoms: Atoms) -> float:
    moved = atoms.copy()
    moved.positions += [0.7, -1.9, 3.3]
    return rows_difference(design(ours, moved), design(ours, atoms))


def after_wrapping(ours: Basis, atoms: Atoms) -> float:
    moved = atoms.copy()
    moved.positions += np.random.default_rng(4).integers(-1, 2, (len(atoms), 3)) @ np.asarray(atoms.cell)
    return rows_difference(design(ours, moved), design(ours, atoms))
