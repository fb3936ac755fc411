"""The first cells of a campaign: lattice constant, oracle check, perfect crystal, two training cells.

Steps 0 and 1 of the loop of theory.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from ase import Atoms

from farfield.oracles.noise import equal_cells
from farfield.service.cells import (
    NONDIAGONAL,
    DefectCell,
    Host,
    Parameter,
    Size,
    displaced_cells,
    random_shifts,
    strain_pairs,
    strained,
    sublattices,
)
from farfield.service.proposals.verification import rounded

__all__ = [
    "Candidate",
    "force_constant_cells",
    "isolated_atoms",
    "lattice_cells",
    "noise_cells",
    "oracle_check_cells",
    "start_cells",
    "strain_cells",
    "strain_count",
]

Candidate = tuple[Atoms, tuple[str, ...], str, str, Size, dict[str, Any]]
"""atoms, kinds, role, term, rung, meta: what `campaign.decision.Proposal` holds, without its ordinal."""

UNIT: Size = (1, 1, 1)
BOX = 15.0
"""Å, edge of the box of an isolated atom."""
LATTICE_SPAN, LATTICE_POINTS = 0.03, 7
SITES_SPAN = 0.1
"""Å that sites move to either side where symmetry leaves them free."""
STRAIN, STRAIN_PAIRS = 0.02, 6
SHIFTED = 6
"""Strained cells with shifted sublattices, where the primitive cell has more than one site."""
SHIFTS = 1.0, 2.5
"""Least and largest shift of two sublattices against each other, Å per unit strain: 0.02 to 0.05 Å at 2 %."""
CHECK_SHARE, CHECK_STRAIN = 0.3, 0.005
CHECK_RATTLE = {True: 0.01, False: 0.02}
"""In r_nn, for an analytic oracle and a noisy one: large enough for the noise, small for cut-offs between shells."""


def lattice_cells(host: Host, kinds: tuple[str, ...]) -> Iterator[Candidate]:
    """Seven conventional cells with a within 3 % of the guess (decisions C3)."""
    for s in np.linspace(-LATTICE_SPAN, LATTICE_SPAN, LATTICE_POINTS):
        a = float(np.round(host.a * (1 + s), 8))
        atoms = host.with_constant(a).atoms()
        yield rounded(atoms), kinds, "lattice constant", "lattice constant", UNIT, {"a": a}


def parameter_cells(
    host: Host, parameter: Parameter, factor: float, scan: int, kinds: tuple[str, ...]
) -> Iterator[Candidate]:
    """Seven conventional cells along a free parameter of the host, `factor` times as far apart as usual."""
    span = (SITES_SPAN if parameter.name == "sites" else LATTICE_SPAN) * factor
    for s in np.linspace(-span, span, LATTICE_POINTS):
        x = float(np.round(s, 8))
        atoms = parameter.deform(host, x).atoms()
        yield rounded(atoms), kinds, "lattice constant", "lattice constant", UNIT, {"a": x, "scan": scan}


def phase_cells(phases: Mapping[str, Mapping[str, Any]]) -> Iterator[Candidate]:
    """The reference phases by species: `cell` (Å) and `sites` as a campaign file describes them (decisions C9)."""
    for species, phase in sorted(phases.items()):
        names = [str(s[0]) for s in phase["sites"]]
        atoms = Atoms(names, scaled_positions=[s[1:] for s in phase["sites"]], cell=phase["cell"], pbc=True)
        yield rounded(atoms), ("E",), "phase", "references", UNIT, {"species": species}


def isolated_atoms(species: Iterable[str]) -> Iterator[Candidate]:
    """One atom of each species in a cubic box of `BOX` Å: the zero of energy that trainers subtract."""
    for symbol in sorted(set(species)):
        atoms = Atoms(symbol, positions=[(BOX / 2,) * 3], cell=(BOX,) * 3, pbc=True)
        yield atoms, ("E",), "isolated atom", "dataset", UNIT, {"species": symbol}


def oracle_check_cells(
    host: Host,
    kinds: tuple[str, ...],
    rng: np.random.Generator,
    analytic: bool = False,
    *,
    traceless: bool = False,
) -> Iterator[Candidate]:
    """One displaced and one strained pair of a rattled conventional cell: F = -dE/dx and the sign of V (A10).

    The displaced pair scales the rattle itself, so that its energies differ in any stable crystal. `traceless`: the
    strain keeps the volume, for a plane-wave program, whose Pulay pressure is no slope of its energy (C3).
    """
    base = host.atoms()
    step = CHECK_RATTLE[analytic] * host.nearest * rng.normal(size=base.positions.shape)
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


def noise_cells(atoms: Atoms, kinds: tuple[str, ...]) -> Iterator[Candidate]:
    """Three cells equal to `atoms`, which is bought anyway: two translations, one other order of the atoms (C10)."""
    for cell, order in equal_cells(atoms):
        yield rounded(cell), kinds, "noise", "noise", UNIT, {"order": order}


def strain_cells(
    host: Host, amplitude: float, rng: np.random.Generator, first_pair: int, term: str
) -> Iterator[Candidate]:
    """Six +-e pairs of strained conventional cells, |e| = `amplitude` (Frobenius).

    Where shifts of sublattices are free, six more with random strains and shifts: the pairs alone hold W(F, p) on the
    manifold of frozen shifts, and the mismatch of the stress is read off the pairs alone (theory.md section 3).
    Measured on Si with virials in the fit, geometric mean of 2 or 3 seeds: internal forces and shifted cells take the
    error of the elastic constants at relaxed shifts from 0.56 to 0.34 eV (Tersoff vacancy) and 0.077 to 0.043 eV
    (Stillinger-Weber interstitial) while force constants are out of the fit, and change it by at most 7 % once they
    are in; its quadratic part falls from 54 to 41-45 eV (Tersoff) or stays (Stillinger-Weber).
    """
    for k, e in enumerate(strain_pairs(amplitude, STRAIN_PAIRS, rng)):
        for sign in (1, -1):
            meta = {"strain": (sign * e).tolist(), "pair": first_pair + k, "sign": sign}
            yield rounded(strained(host.atoms(), sign * e)), ("F", "V"), "strain", term, UNIT, meta
    if not _shifts(host):
        return
    own = rng.spawn(1)[0]  # a stream of its own: what comes after these cells is drawn as for any crystal
    for k, e in enumerate(strain_pairs(amplitude, SHIFTED, own), STRAIN_PAIRS):
        shifts = random_shifts(host, amplitude * own.uniform(*SHIFTS), own)
        atoms = strained(host.atoms(), e)
        atoms.positions += shifts
        meta = {"strain": e.tolist(), "pair": first_pair + k, "sign": 1, "shifts": shifts.tolist()}
        yield rounded(atoms), ("F", "V"), "strain", term, UNIT, meta


def strain_count(host: Host) -> int:
    """How many cells `strain_cells` gives."""
    return 2 * STRAIN_PAIRS + (SHIFTED if _shifts(host) else 0)


def _shifts(host: Host) -> bool:
    """Whether sublattices can shift: the primitive cell has more than one site."""
    return max(sublattices(host)) > 0


def force_constant_cells(
    host: Host, size: Size, step: float, term: str, *, nondiagonal: bool = False
) -> Iterator[Candidate]:
    """The irreducible displaced cells for the perfect supercell's force constants: one, where an operation maps +h to
    -h (C4). `nondiagonal`: in small cells of any shape that hold its wave vectors between them."""
    cell = displaced_cells(host, size, nondiagonal=nondiagonal)
    for k, d in enumerate(cell.displacements):
        for sign in cell.signs(d):
            meta = {"displacement": k, "sign": sign, "step": step, "site": d.site, "direction": list(d.direction)}
            if nondiagonal:
                meta["cells"] = NONDIAGONAL
            yield rounded(cell.displaced(d, sign * step)), ("F",), "force constants", term, size, meta


def start_cells(
    cell: DefectCell, kinds: tuple[str, ...], rng: np.random.Generator, rattles: tuple[float, ...]
) -> Iterator[Candidate]:
    """Training cells on the first rung at the ideal positions (dumbbells parted) with normal rattles in Å."""
    for sigma in rattles:
        atoms = cell.atoms(cell.start(sigma, rng))
        yield rounded(atoms), kinds, "training", "start", cell.size, {"rattle": sigma}
