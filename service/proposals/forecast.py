"""Predict before paying: the estimates of the next rungs from those so far, and what the tolerance will cost.

The error of a surrogate trained up to a rung falls about as a power of the rung's width (theory.md, T1; closed fits of
section 5 give -4 to -7). Both estimates are forecast as

    log eta = level - slope log(N^{1/3}) + spread N(0, 1)

fitted to the rungs whose gates were open, the last ones weighing most, with a prior on the slope and on the spread
that carries the first rungs. N^{1/3} and not half the smallest height: an incomplete rung, longer in one direction
only, is a step of its own. A refit that learnt its last call well does better on the next one, so eta_geo of the refit
on that call, the in-sample one, moves the level. What the constants are worth: docs/forecast.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells import Size
from farfield.service.estimates import Estimate
from farfield.service.estimates.estimate import THETA_COMPLETE, THETA_OTHER

__all__ = [
    "ENERGY",
    "GEOMETRY",
    "ErrorLaw",
    "Forecast",
    "Need",
    "Prior",
    "Purchase",
    "Range",
    "Relief",
    "Rung",
    "Step",
    "energy_law",
    "error_law",
    "forecast",
    "geometry_law",
    "reliefs",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """What is held of a power law before its points: slope +- width, and the spread of log eta, worth `weight` points.

    `learnt`: how far the level follows log(in-sample / eta) of the last call, and the value of it that moves nothing;
    `growth`: what a larger basis takes from the level, whose refit has no such number.
    """

    slope: float
    width: float
    spread: float
    weight: float = 2.0
    learnt: tuple[float, float] = (0.0, 0.0)
    growth: float = 0.0


GEOMETRY = Prior(6.0, 3.0, 0.5, learnt=(0.6, -0.25), growth=0.3)
ENERGY = Prior(8.0, 3.0, 1.0, growth=0.4)
"""eta_E is signed and passes zero, so that |eta_E| scatters more; it is of second order, so that it falls faster."""
HALVED = 2.0
"""Rungs after which a point weighs half."""
NOTHING = 1e-9
"""Å or eV: a defect that relaxes by exactly zero has estimates of zero, whose logarithm is none."""


@dataclass(frozen=True)
class Range:
    """A forecast (the median) and the ends of its 68 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ErrorLaw:
    """log eta = `level` - `slope` log(x / x0), x = N^{1/3}, x0 that of the last point of `points`.

    `covariance` (2, 2) of level and slope; `spread` of single values about the law.
    """

    level: float
    slope: float
    x0: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    spread: float
    points: int

    def at(self, natoms: int) -> Range:
        """The forecast for a cell of `natoms` atoms, in the unit of the values."""
        v = np.array([1.0, -np.log(np.cbrt(natoms) / self.x0)])
        middle = float(v @ np.array([self.level, self.slope]))
        sd = float(np.sqrt(v @ np.array(self.covariance) @ v + self.spread**2))
        return Range(float(np.exp(middle)), float(np.exp(middle - sd)), float(np.exp(middle + sd)))


def error_law(
    natoms: Sequence[int],
    values: Sequence[float],
    prior: Prior,
    learnt: float | None = None,
    *,
    grown: bool = False,
) -> ErrorLaw:
    """The law through `values` (any sign, not all of one size) on cells of `natoms` atoms, in the order of the rungs.

    Bayesian linear regression in logarithms. A point k places before the last weighs 2^{-k / 2}. The spread follows the
    residuals as their number grows. `learnt`: eta in sample over eta of the last point; `grown`: the next surrogate has
    a larger basis than the last point's. Raises ValueError without points.
    """
    if not values or len(natoms) != len(values):
        raise ValueError("a law needs one value for each cell, and at least one; estimate a rung first")
    x = np.log(np.cbrt(np.asarray(natoms, float)))
    y = np.log(np.maximum(np.abs(np.asarray(values, float)), NOTHING))
    n = len(x)
    w = 0.5 ** (np.arange(n)[::-1] / HALVED)
    X = np.stack([np.ones(n), x[-1] - x], axis=1)
    variance = prior.spread**2
    for _ in range(30):  # a contraction: the residuals hardly move with the weight of the prior
        precision = X.T @ (w[:, None] * X) + np.diag([0.0, variance / prior.width**2])
        right = X.T @ (w * y) + np.array([0.0, prior.slope * variance / prior.width**2])
        mean = np.linalg.solve(precision, right)
        rest = float((w * (y - X @ mean) ** 2).sum()) * n / float(w.sum())
        variance = (prior.weight * prior.spread**2 + rest) / (prior.weight + max(n - 2, 0))
    C = variance * np.linalg.inv(precision)
    level = float(mean[0])
    if grown:
        level -= prior.growth
    elif learnt is not None and learnt > 0:
        share, neutral = prior.learnt
        level += share * (float(np.log(learnt)) - neutral)
    covariance = ((float(C[0, 0]), float(C[0, 1])), (float(C[1, 0]), float(C[1, 1])))
    return ErrorLaw(level, float(mean[1]), float(np.exp(x[-1])), covariance, float(np.sqrt(variance)), n)


def geometry_law(history: Sequence[Estimate], basis_size: int | None = None) -> ErrorLaw | None:
    """The law of eta_geo, Å; None before a rung with open gates. `basis_size`: that of the next surrogate, if known."""
    sound = _sound(history)
    if not sound:
        return None
    last = sound[-1]
    learnt = None if last.in_sample is None or last.eta_geo <= 0 else last.in_sample / last.eta_geo
    grown = _grown(last, basis_size)
    return error_law([e.natoms for e in sound], [e.eta_geo for e in sound], GEOMETRY, learnt, grown=grown)


def energy_law(history: Sequence[Estimate], basis_size: int | None = None) -> ErrorLaw | None:
    """The law of |eta_E|, eV; None before a rung with open gates. `basis_size` as in `geometry_law`."""
    sound = _sound(history)
    if not sound:
        return None
    natoms, values = [e.natoms for e in sound], [e.eta_energy for e in sound]
    return error_law(natoms, values, ENERGY, grown=_grown(sound[-1], basis_size))


def _sound(history: Sequence[Estimate]) -> list[Estimate]:
    """The estimates that tell something: gates open, numbers finite."""
    return [e for e in history if e.believed and np.isfinite(e.eta_geo) and np.isfinite(e.eta_energy)]


def _grown(last: Estimate, basis_size: int | None) -> bool:
    return basis_size is not None and basis_size > last.basis_size


@dataclass(frozen=True)
class Rung:
    """A verification that may be bought: its cell, the `kinds` asked, what its calls cost together."""

    size: Size
    natoms: int
    complete: bool
    kinds: str
    cost: float

    @property
    def theta(self) -> float:
        """The safety factor of the rung (decisions C6)."""
        return THETA_COMPLETE if self.complete else THETA_OTHER


@dataclass(frozen=True)
class Step:
    """The forecast of one rung; `spent` is the cost up to and with it, `within` whether its median meets the tolerances
    (theta eta_geo, theta |eta_E|)."""

    rung: Rung
    geometry: Range
    energy: Range
    spent: float
    within: bool

    def to_json(self) -> dict[str, Any]:
        """For `--json`: Å and eV."""
        return {**asdict(self), "theta": self.rung.theta}


@dataclass(frozen=True)
class Need:
    """What is needed until two rungs in a row are within the tolerances: verification calls, their cost, the last."""

    calls: int
    cost: float
    rung: Size


@dataclass(frozen=True)
class Forecast:
    """The curve of error against cost, and what the tolerance needs: by the medians, and where every value came out at
    the low or the high end of its interval. None: not before the target cell."""

    steps: tuple[Step, ...]
    need: Need | None
    best: Need | None
    worst: Need | None
    slope_geometry: float
    slope_energy: float
    points: int

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "steps": [s.to_json() for s in self.steps],
            "need": None if self.need is None else asdict(self.need),
            "best": None if self.best is None else asdict(self.best),
            "worst": None if self.worst is None else asdict(self.worst),
            "slope_geometry": self.slope_geometry,
            "slope_energy": self.slope_energy,
            "points": self.points,
        }


def forecast(
    history: Sequence[Estimate],
    ladder: Sequence[Rung],
    tol_geo: float,
    tol_energy: float,
    spent: float = 0.0,
    basis_size: int | None = None,
) -> Forecast | None:
    """The estimates to come on `ladder`, in its order, from those so far; None before one with open gates.

    `spent`: what the record has cost already, in the unit of the rungs' costs. `basis_size`: functions of the surrogate
    that is verified next, whose refit may have grown the basis. The stop's third condition, that u^h moves by less than
    the tolerance from one rung to the next, is left out: the errors of both rungs bound it. The last estimate counts as
    the first of the two rungs in a row where it is within the tolerances.
    """
    geometry, energy = geometry_law(history, basis_size), energy_law(history, basis_size)
    if geometry is None or energy is None:
        return None
    total = spent
    steps = []
    for rung in ladder:
        total += rung.cost
        g, e = geometry.at(rung.natoms), energy.at(rung.natoms)
        within = rung.theta * g.value <= tol_geo and rung.theta * e.value <= tol_energy
        steps.append(Step(rung, g, e, total, within))

    def need(end: str) -> Need | None:
        before = history[-1].within(tol_geo, tol_energy)
        for k, s in enumerate(steps):
            theta = s.rung.theta
            now = theta * getattr(s.geometry, end) <= tol_geo and theta * getattr(s.energy, end) <= tol_energy
            if before and now:
                return Need(k + 1, s.spent - spent, s.rung.size)
            before = now
        return None

    return Forecast(
        tuple(steps), need("value"), need("low"), need("high"), geometry.slope, energy.slope, geometry.points
    )


@dataclass(frozen=True)
class Purchase:
    """Something else than the next rung that may be bought: `term` of the estimate that it is for (fc, v or fold)."""

    term: str
    what: str
    cost: float


@dataclass(frozen=True)
class Relief:
    """What a purchase can take from eta_geo at most, and what it leaves, Å; known from the last estimate, no call."""

    purchase: Purchase
    removes: float
    leaves: float = field(default=0.0)


def reliefs(last: Estimate, purchases: Sequence[Purchase]) -> list[Relief]:
    """The most that each purchase can take from the last estimate, the largest first.

    fc: the assembled norm falls to that of the core at best; v and fold are parts of the sum (decisions C6).
    """
    parts = {"fc": max(last.assembled - last.core, 0.0), "v": last.v, "fold": last.fold}
    found = [Relief(p, parts[p.term], last.eta_geo - parts[p.term]) for p in purchases]
    return sorted(found, key=lambda r: -r.removes)
