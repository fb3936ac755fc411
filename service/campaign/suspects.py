"""Labels in doubt: which answers are suspect, the nearby cells that confirm them, and the verdict (decisions A10).

A label is suspect where it is far off the current surrogate's prediction. That alone says nothing of who is wrong, and
a repeat would repeat a lie; so a *different* cell is bought, one step away along the disputed derivative, and the label
is believed where the energies of the two agree with it, dE = -F dx (or -V de).

Step and limit: along m = F - F^h, with |dx| = h, a sound label leaves E1 - E0 + (F0 + F1) dx / 2 = O(h^3 E'''/12), a
false one half of m dx, h |m| / 2, or more. At h = 0.01 Å and |m| > 1 eV/Å that is over 5 meV against less than 0.1 meV
of curvature (E''' below 1000 eV/Å^3), so that a quarter of it parts the two; a noisy oracle takes 0.02 Å, or what
brings the disputed energy to 40 sigma. Measured on 60 cells each of Si (Tersoff) and W (EAM) rattled by 0.03 to 0.3 Å,
with one force disputed by 1 eV/Å: sound labels reach 0.11 and 0.47 of the limit, false ones 3.5 times the limit at
least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.oracles.observation import VOIGT
from farfield.service.campaign.decision import Answer, Proposal
from farfield.service.cells import strained
from farfield.service.proposals.opening import Candidate
from farfield.service.proposals.verification import rounded

__all__ = ["ROLE", "Doubt", "Mismatch", "confirmation", "doubt", "refutation"]

Array = NDArray[np.float64]

ROLE = "confirmation"
"""Role of the cells bought to confirm a label; they never enter a fit."""
SIGMAS, TIMES_RMS = 20.0, 10.0
EARLY = 3.0
"""The floors are so many times higher for the first verification call, which no error out of sample goes before.

Measured on sound oracles, largest |F - F^h| in eV/Å of the first verification call, and of later ones: Cu vacancy (EMT)
0.01 and below 0.001, W vacancy (EAM) 0.02 and 0.004, Cu dumbbell (EMT) 0.05 and 0.02, Si dumbbell (Stillinger-Weber)
1.2 and 0.9, Si vacancy (Tersoff) 2.6 and 0.6; the energy of the last is off by 0.018 eV per atom.
"""
FORCE = 1.0
"""Largest |F - F^h| of an atom that is never in doubt, eV/Å."""
ENERGY = 0.02
"""The same for energies, eV per atom: FORCE over 0.02 Å, the rattle of the first verification call."""
VIRIAL = 1.0
"""The same for virials, eV per atom: FORCE over 1 Å; it catches units and junk, a sign is the oracle check's."""
STEP, NOISY_STEP, LONGEST = 0.01, 0.02, 0.1
"""|dx| in Å over all atoms together: without noise, with noise, and at most."""
STRAIN = 0.005
"""|de| of the strained cells that confirm a virial."""
SHARE = 0.25
"""Part of the disputed energy beyond which dE = -F dx is violated."""
ROUND_OFF, NOISE = 1e-6, 5e-4
"""eV that energies may be off at least, without noise and with noise."""


@dataclass(frozen=True)
class Mismatch:
    """An answer minus the prediction: `energy` eV against the host's, `forces` (N, 3) eV/Å, `virial` (6,) eV."""

    energy: float | None
    forces: Array | None
    virial: Array | None


@dataclass(frozen=True)
class Doubt:
    """What is suspect in an answer: `kind` E, F or V, and `why` in words."""

    kind: str
    why: str


def doubt(
    role: str, natoms: int, off: Mismatch, rms: dict[str, float], sigma: dict[str, float], *, early: bool = False
) -> Doubt | None:
    """The doubt about an answer in `role` that is `off` the prediction, None where there is none.

    `rms`: residuals of the fit by kind, eV, eV/Å, eV per atom; `sigma`: noise by kind, eV, eV/Å, eV. Beyond
    max(20 sigma, 10 rms, a floor) a label is suspect; `early` raises the floor; virials are looked at in strained cells
    alone, where they are fitted.
    """
    n, up = natoms, EARLY if early else 1.0
    found: list[tuple[str, float, float, str]] = []
    if off.forces is not None:
        worst = float(np.sqrt((off.forces**2).sum(axis=1)).max())
        found.append(("F", worst, _limit(up * FORCE, rms.get("F", 0.0), sigma.get("F", 0.0)), "eV/Å in a force"))
    if off.energy is not None:
        limit = _limit(up * ENERGY, rms.get("E", 0.0) / n, sigma.get("E", 0.0) / n)
        found.append(("E", abs(off.energy) / n, limit, "eV per atom in the energy"))
    if off.virial is not None and role == "strain":
        limit = _limit(up * VIRIAL, rms.get("V", 0.0), sigma.get("V", 0.0) / n)
        found.append(("V", float(np.abs(off.virial).max()) / n, limit, "eV per atom in the virial"))
    for kind, size, limit, unit in found:
        if limit < size < np.inf:  # a surrogate that is out of its depth altogether says nothing
            return Doubt(kind, f"{size:.3g} {unit} off the prediction (limit {limit:.3g})")
    return None


def _limit(floor: float, rms: float, sigma: float) -> float:
    return max(SIGMAS * sigma, TIMES_RMS * rms, floor)


def confirmation(
    kind: str, p: Proposal, a: Answer, off: Mismatch, *, analytic: bool, sigma: float, traceless: bool
) -> list[Candidate]:
    """The cells that test the answer `a` to `p`, whose `kind` is in doubt; `sigma`: noise of E, eV.

    One cell where the answer has an energy, else two, a step to either side. `traceless`: strains keep the volume, for
    a plane-wave program (C3).
    """
    meta: dict[str, Any] = {"suspect": a.calculation}
    if kind == "V" and off.virial is not None:
        e = _strain(off.virial, traceless)
        return [
            (
                rounded(strained(p.atoms, s * e)),
                ("E", "F"),
                ROLE,
                "suspect",
                p.rung,
                {**meta, "strain": (s * e).tolist()},
            )
            for s in (1, -1)
        ]
    direction, size = _direction(kind, p.atoms, a, off)
    step = STEP
    if not analytic:
        step = float(np.clip(40 * np.sqrt(2) * sigma / max(size, 1e-9), NOISY_STEP, LONGEST))
    out: list[Candidate] = []
    for sign in (1,) if a.energy is not None else (1, -1):
        atoms = p.atoms.copy()
        atoms.positions += sign * step * direction
        out.append((rounded(atoms), ("E", "F"), ROLE, "suspect", p.rung, dict(meta)))
    return out


def _direction(kind: str, atoms: Atoms, a: Answer, off: Mismatch) -> tuple[Array, float]:
    """Unit direction (N, 3) of the test, along the disputed part of the forces, else along them; its size, eV/Å."""
    for forces in (off.forces if kind == "F" else None, a.forces, off.forces):
        if forces is not None and (size := float(np.linalg.norm(forces))) > 1e-3:
            return forces / size, size
    out = np.zeros((len(atoms), 3))
    out[0, 0] = 1.0
    return out, 0.0


def _strain(virial: Array, traceless: bool) -> Array:
    """Symmetric strain (3, 3) along a virial (6,)."""
    e = np.zeros((3, 3))
    for value, (i, j) in zip(virial, VOIGT, strict=True):
        e[i, j] = e[j, i] = value
    if traceless:
        e -= np.trace(e) / 3 * np.eye(3)
    return STRAIN * e / max(float(np.linalg.norm(e)), 1e-12)


def refutation(
    kind: str,
    p: Proposal,
    a: Answer,
    off: Mismatch,
    tests: Sequence[tuple[Proposal, Answer]],
    *,
    analytic: bool,
    sigma: float,
) -> str | None:
    """How the answer `a` to `p` violates dE = -F dx (or -V de) with the `tests` that `confirmation` asked for.

    None where it holds, and the label is confirmed. Raises ValueError where a test has no energy or forces.
    """
    drop, work, disputed = _drop(kind, p, a, off, tests)
    if kind == "E":
        disputed = abs(off.energy or 0.0)
    noise = 5 * np.sqrt(2) * sigma if sigma else 0.0
    limit = max(SHARE * disputed, noise, ROUND_OFF if analytic else NOISE)
    if abs(drop - work) <= limit:
        return None
    name = "-V de" if kind == "V" else "-F dx"
    return f"to a nearby cell the energy changes by {drop:.5f} eV and {name} is {work:.5f} eV (limit {limit:.5f})"


def _drop(
    kind: str, p: Proposal, a: Answer, off: Mismatch, tests: Sequence[tuple[Proposal, Answer]]
) -> tuple[float, float, float]:
    """Energy change, work of the label in doubt, and the part of the work that is disputed, eV."""
    energies = [b.energy for _, b in tests if b.energy is not None]
    if len(energies) != len(tests) or not tests:
        raise ValueError("a test has no energy")
    if kind == "V":
        if a.virial is None or off.virial is None:
            raise ValueError("there is no virial to test")
        e = np.array(tests[0][0].meta["strain"])
        voigt = np.array([e[i, j] * (1 if i == j else 2) for i, j in VOIGT])
        return energies[0] - energies[1], -2 * float(a.virial @ voigt), 2 * abs(float(off.virial @ voigt))
    forces = [b.forces for _, b in tests]
    if a.forces is None or off.forces is None or any(f is None for f in forces):
        raise ValueError("there are no forces to test")
    first = np.asarray(forces[0])
    dx = tests[0][0].atoms.positions - p.atoms.positions
    if len(tests) == 1:
        if a.energy is None:
            raise ValueError("there is no energy to test")
        work = -0.5 * float(((a.forces + first) * dx).sum())
        return energies[0] - a.energy, work, 0.5 * abs(float((off.forces * dx).sum()))
    # Simpson's rule over both sides, exact to the fifth order
    work = -float(((first + 4 * a.forces + np.asarray(forces[1])) * dx).sum()) / 3
    return energies[0] - energies[1], work, 4 / 3 * abs(float((off.forces * dx).sum()))
