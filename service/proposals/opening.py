"""The first cells of a campaign: lattice constant, oracle check, perfect crystal, two training cells.

Steps 0 and 1 of the loop of theory.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms

from farfield.service.cells import DefectCell, ForceConstantCell, Host, Size, strain_pairs, strained
from farfield.service.proposals.verification import rounded

__all__ = ["Candidate", "force_constant_cells", "lattice_cells", "oracle_check_cells", "start_cells", "strain_cells"]

Candidate = tuple[Atoms, tuple[str, ...], str, str, Size, dict[str, Any]]
"""atoms, kinds, role, term, rung, meta: what `campaign.decision.Proposal` holds, without its ordinal."""

UNIT: Size = (1, 1, 1)
LATTICE_SPAN, LATTICE_POINTS = 0.03, 7
STRAIN, STRAIN_PAIRS = 0.02, 6
CHECK_RATTLE, CHECK_SHARE, CHECK_STRAIN = 0.02, 0.3, 0.005


def lattice_cells(host: Host, kinds: tuple[str, ...]) -> Iterator[Candidate]:
    """Seven conventional cells with a within 3 % of the guess (decisions C3)."""
    for s in np.linspace(-LATTICE_SPAN, LATTICE_SPAN, LATTICE_POINTS):
        a = float(np.round(host.a * (1 + s), 8))
        atoms = host.with_constant(a).atoms()
        yield rounded(atoms), kinds, "lattice constant", "lattice constant", UNIT, {"a": a}


def oracle_check_cells(
    host: Host, kinds: tuple[str, ...], rng: np.random.Generator, *, traceless: bool = False
) -> Iterator[Candidate]:
    """One displaced and one strained pair of a rattled conventional cell: F = -dE/dx and the sign of V (A10).

    The displaced pair scales the rattle itself, so that its energies differ in any stable crystal. `traceless`: the
    strain keeps the volume, for a plane-wave program, whose Pulay pressure is no slope of its energy (C3).
    """
    base = host.atoms()
    step = CHECK_RATTLE * host.nearest * rng.normal(size=base.positions.shape)
    step -= step.mean(axis=0)
    for sign in (1, -1):
        atoms = base.copy()
        atoms.positions += (1 + sign * CHECK_SHARE) * step
        meta = {"name": f"displaced{sign:+d}", "sign": sign}
        yield rounded(atoms), kinds, "check", "oracle check", UNIT, meta
    base.positions += step
    if "V" not in kinds:
        return
    e = strain_pairs(CHECK_STRAIN, 1, rng)[0]
    if traceless:
        e = e - np.trace(e) / 3 * np.eye(3)
    for sign in (1, -1):
        meta = {"name": f"strained{sign:+d}", "sign": sign, "strain": (sign * e).tolist()}
        yield rounded(strained(base, sign * e)), kinds, "check", "oracle check", UNIT, meta


def strain_cells(
    host: Host, amplitude: float, rng: np.random.Generator, first_pair: int, term: str
) -> Iterator[Candidate]:
    """Six +-e pairs of strained conventional cells, |e| = `amplitude` (Frobenius)."""
    for k, e in enumerate(strain_pairs(amplitude, STRAIN_PAIRS, rng)):
        for sign in (1, -1):
            meta = {"strain": (sign * e).tolist(), "pair": first_pair + k, "sign": sign}
            yield rounded(strained(host.atoms(), sign * e)), ("F", "V"), "strain", term, UNIT, meta


def force_constant_cells(host: Host, size: Size, step: float, term: str) -> Iterator[Candidate]:
    """The irreducible displaced cells of the perfect supercell: one, where a site operation maps +h to -h (C4)."""
    cell = ForceConstantCell(host, size)
    for k, d in enumerate(cell.displacements):
        for sign in cell.signs(d):
            meta = {"displacement": k, "sign": sign, "step": step, "site": d.site, "direction": list(d.direction)}
            yield rounded(cell.displaced(d, sign * step)), ("F",), "force constants", term, size, meta


def start_cells(
    cell: DefectCell, kinds: tuple[str, ...], rng: np.random.Generator, rattles: tuple[float, ...]
) -> Iterator[Candidate]:
    """Training cells on the first rung at the ideal positions (dumbbells parted) with normal rattles in Å."""
    for sigma in rattles:
        atoms = cell.atoms(cell.start(sigma, rng))
        yield rounded(atoms), kinds, "training", "start", cell.size, {"rattle": sigma}
