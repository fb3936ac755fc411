"""What the opening rounds find: the lattice constant, and whether the oracle's forces and virials are derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from farfield.service.campaign.observed import Observed

__all__ = ["FORCE_BOUND", "VIRIAL_BOUND", "check_oracle", "equilibrium"]

FORCE_BOUND = VIRIAL_BOUND = 0.02
NOISE = 5e-4
"""eV that a noisy oracle's energies may be off; and the third order of a strained pair's."""
"""Largest relative mismatch of F or V with -dE over the pair, above 0.5 meV."""


def equilibrium(energies: Sequence[tuple[float, float]]) -> tuple[float, bool]:
    """The lattice constant (Å) of least energy from (a Å, E eV) points, and whether the points bracket it.

    A quartic through the strain is fitted to the seven points nearest to the lowest. Where the lowest is at an end, the
    end is returned, so that the next points are centred on it.
    """
    points = sorted(set(energies))
    a = np.array([p[0] for p in points])
    e = np.array([p[1] for p in points])
    k = int(e.argmin())
    if k in (0, len(a) - 1):
        return float(a[k]), False
    near = np.sort(np.argsort(np.abs(a - a[k]))[:7])
    centre, width = a[k], np.ptp(a[near]) / 2
    x = (a[near] - centre) / width
    c = np.polynomial.polynomial.polyfit(x, e[near] - e[k], min(4, len(near) - 1))
    slope = np.polynomial.polynomial.polyder(c)
    roots = np.polynomial.polynomial.polyroots(slope)
    real = roots[np.abs(roots.imag) < 1e-9].real
    inside = real[np.abs(real) <= 1]
    if not len(inside):
        return float(centre), False
    best = inside[np.polynomial.polynomial.polyval(inside, c).argmin()]
    return float(centre + width * best), True


def check_oracle(observed: Observed, analytic: bool = False) -> str | None:
    """None, or one sentence on how the oracle's pair violates F = -dE/dx or V = -dE/d(strain) (decisions A10).

    `analytic`: the oracle has no noise, so that small differences count too."""
    displaced_noise = 1e-6 if analytic else NOISE
    for kind, bound, noise in (("displaced", FORCE_BOUND, displaced_noise), ("strained", VIRIAL_BOUND, NOISE)):
        pair = [observed.checks.get(f"{kind}{s:+d}") for s in (1, -1)]
        if pair[0] is None or pair[1] is None:
            continue
        (p, a), (m, b) = pair[0], pair[1]
        if a.energy is None or b.energy is None or a.forces is None or b.forces is None:
            return "the oracle check has no energies or forces"
        drop = a.energy - b.energy
        if kind == "displaced":
            work = -float((0.5 * (a.forces + b.forces) * (p.atoms.positions - m.atoms.positions)).sum())
            name = "forces are not -dE/dx"
        else:
            if a.virial is None or b.virial is None:
                continue
            e = np.array(p.meta["strain"]) - np.array(m.meta["strain"])
            voigt = np.array([e[0, 0], e[1, 1], e[2, 2], 2 * e[1, 2], 2 * e[0, 2], 2 * e[0, 1]])
            work = -float((0.5 * (a.virial + b.virial) * voigt).sum())
            name = "virials are not -dE/d(strain) (sign or unit?)"
        if abs(drop - work) > bound * max(abs(drop), abs(work)) + noise:
            return f"the oracle's {name}: energy change {drop:.6f} eV, from the derivative {work:.6f} eV"
    return None
