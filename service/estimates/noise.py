"""What the oracle's force noise does to the estimates: its share of eta_geo, and the best finite difference.

Nothing that is bought takes the noise of the verification call out of its residual: where the core part is no larger
than what noise gives by itself, the campaign has learnt what this oracle can teach.

The residual holds noise twice: of the call's own forces, sigma on each component, and of the force constants that take
out its rattle xi (decisions C5). Those are differences over 2h, of variance sigma^2 / (2 h^2) each, and a component of
dH xi sums 3 N of them, N the atoms of the FC cell: its variance is `rattle_gain` <xi^2> sigma^2. Measured on Cu (EMT
with noise, N = 108, h = 0.02 Å): a rattle of 0.02 Å makes 0.037 to 0.042 eV/Å out of 0.003.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import DefectCell, ForceConstantCell
from farfield.service.surrogate import Surrogate

__all__ = ["eta_noise", "force_constant_step", "quiet_rattle", "rattle_gain", "third_derivative"]

Array = NDArray[np.float64]
Solver = Callable[[Array], tuple[Array, bool]]

DRAWS = 4
"""The norm of one draw scatters by 3 % (Cu vacancy) to 15 % (a dumbbell with a soft mode), while sigma itself is known
to 14 %. A draw costs one solve: 0.04 to 0.2 s for 500 to 2000 atoms."""
STENCIL = 0.05
"""Å between the points of the third derivative: its error is below a percent, its range that of the steps."""
STEPS = 0.01, 0.05
"""Least and largest displacement of a force-constant cell, Å (decisions C10)."""


def eta_noise(
    sigma: float, cell: DefectCell, target: DefectCell, solver: Solver, rng: np.random.Generator
) -> tuple[float, bool]:
    """Root mean square of ||D G^h f|| in Å over noise f of `sigma` eV/Å per force component on the verification cell's
    atoms, and whether every solve converged. Zero where `sigma` is.

    The mean square depends on the variance alone, so f is drawn as +-sigma, whose squares scatter least (Hutchinson
    1990). `solver` is that of `geometry_error`; net forces are taken out.
    """
    if sigma == 0.0:
        return 0.0, True
    index = cell.map_to(target)
    squares, sound = [], True
    for _ in range(DRAWS):
        f = np.zeros((target.natoms, 3))
        f[index] = sigma * (2.0 * rng.integers(0, 2, size=(cell.natoms, 3)) - 1.0)
        x, converged = solver(f - f.mean(axis=0))
        squares.append(target.norm(x) ** 2)
        sound = sound and converged
    return float(np.sqrt(np.mean(squares))), sound


def rattle_gain(natoms: int, step: float) -> float:
    """Variance of dH xi in units of sigma^2 <xi^2>, 1/Å^2: `natoms` of the FC cell and its `step` in Å."""
    return 3 * natoms / (2 * step**2)


def quiet_rattle(noise: float, gain: float, harmless: float) -> float:
    """The rattle in Å up to which the noise of the force constants matters little: it doubles the variance of the
    residual at most, or leaves its estimate below `harmless` Å. `noise` is `eta_noise` of the forces alone, in Å."""
    if noise == 0.0:
        return float("inf")
    return float(np.sqrt(max(1.0, (harmless / noise) ** 2 - 1.0) / gain))


def third_derivative(surrogate: Surrogate, cell: ForceConstantCell) -> float:
    """Largest |d3F/dh3| in eV/Å^4 over the irreducible displacements h and all atoms, F along the displacement."""
    symbols = list(cell.host.symbols) * (cell.natoms // cell.host.nb)
    evaluate = surrogate.evaluator(symbols, cell.host.supercell_vectors(cell.size))
    worst = 0.0
    for d in cell.displacements:
        two, one, other, opposite = (evaluate(cell.displaced(d, k * STENCIL).positions)[1] for k in (2, 1, -1, -2))
        third = (two - 2 * one + 2 * other - opposite) @ np.array(d.direction) / (2 * STENCIL**3)
        worst = max(worst, float(np.abs(third).max()))
    return worst


def force_constant_step(sigma: float, third: float) -> float:
    """The displacement h in Å, to 1e-4, at which noise and truncation of a central difference add up to least.

    (F(h) - F(-h)) / 2h is off by sigma / (sqrt 2 h) and by h^2 |F'''| / 6: h^3 = 3 sigma / (sqrt 2 |F'''|), kept within
    `STEPS` (decisions C10). `sigma` eV/Å, `third` eV/Å^4.
    """
    best = np.cbrt(3 * sigma / (np.sqrt(2) * third)) if third > 0 else (np.inf if sigma > 0 else 0.0)
    return float(np.round(np.clip(best, *STEPS), 4))
