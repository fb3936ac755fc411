"""What a call is expected to cost: the declared power law, or one fitted from the times of the calls so far.

Both are c(N) = t0 + t1 max(N, N0)^p (theory.md section 4, step 7); the declared one has t0 = 0 and knows ratios only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CostModel", "FittedCost", "Law", "PowerCost", "Timing", "cost_from_json", "cost_model", "fit_cost"]

Array = NDArray[np.float64]

SMALLEST = 8
"""N0: below this many atoms the k-point mesh keeps a call from getting cheaper."""
CONSTANTS, CELLS = "FC", "EFV"
"""The two groups of calls: displaced cells of the perfect crystal converge faster than defect and strained cells."""
DECLARED = 2.5
"""The exponent of a stored model that names none."""
ENOUGH = 3
"""Timed sizes from which the exponent is fitted; before, it is the declared one."""
EXPONENTS = 0.0, 6.0
FLOORS = 1e-3, 1e7
"""t0 over the size-dependent part of the smallest call; a force field in a process of its own is nearly all floor."""
SPREAD = 0.15
"""Log residual beyond which a time loses its pull on the law: calls of one size scatter by 10 to 20 %."""
LEANING = 0.01
"""What an exponent farther by one from the declared costs in units of the loss: a fit nearer by 1.5 % on one size."""


class CostModel(Protocol):
    """Cost of a call on `natoms` atoms bought in `role`."""

    def __call__(self, natoms: int, role: str = "") -> float:
        """Cost of one call."""

    def to_json(self) -> dict[str, Any]:
        """As stored with a decision."""


@dataclass(frozen=True)
class Timing:
    """What one calculation took: core-seconds of the attempts whose labels were accepted."""

    role: str
    natoms: int
    core_seconds: float


@dataclass(frozen=True)
class PowerCost:
    """Cost of a call on N atoms, relative to one on 8 atoms or fewer. The default of a campaign (decisions A1)."""

    exponent: float

    def __call__(self, natoms: int, role: str = "") -> float:
        """Relative cost of one call, the same in every role."""
        return float((max(natoms, SMALLEST) / SMALLEST) ** self.exponent)

    def to_json(self) -> dict[str, Any]:
        """As stored with a decision."""
        return {"model": "power", "exponent": self.exponent}


@dataclass(frozen=True)
class Law:
    """floor + scale (max(N, 8) / 8)^exponent in core-seconds, from `sizes` timed sizes and `calls` calls."""

    floor: float
    scale: float
    exponent: float
    sizes: int
    calls: int

    def __call__(self, natoms: int) -> float:
        """Core-seconds of a call on `natoms` atoms."""
        return float(self.floor + self.scale * (max(natoms, SMALLEST) / SMALLEST) ** self.exponent)


@dataclass(frozen=True)
class FittedCost:
    """Core-seconds by the laws of the groups of calls; a group without times takes the other's.

    Without any it is the declared power law, relative to the smallest call (`timed` says which).
    """

    exponent: float
    laws: Mapping[str, Law] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Whether costs are core-seconds."""
        return bool(self.laws)

    def __call__(self, natoms: int, role: str = "") -> float:
        """Core-seconds of one call, or its relative cost before any was timed."""
        law = self.laws.get(_group(role)) or next(iter(self.laws.values()), None)
        return PowerCost(self.exponent)(natoms) if law is None else law(natoms)

    def to_json(self) -> dict[str, Any]:
        """As stored with a decision."""
        return {
            "model": "fitted",
            "exponent": self.exponent,
            "laws": {group: dict(vars(law)) for group, law in self.laws.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FittedCost:
        """The inverse of `to_json`."""
        return cls(float(data["exponent"]), {group: Law(**law) for group, law in data["laws"].items()})


def cost_model(model: str, exponent: float, timings: Iterable[Timing]) -> PowerCost | FittedCost:
    """The cost model of `[cost]`: "power" with the declared exponent, or "fitted" from `timings`."""
    return PowerCost(exponent) if model == "power" else fit_cost(timings, exponent)


def cost_from_json(data: Mapping[str, Any]) -> PowerCost | FittedCost:
    """The cost model that a decision was stored with."""
    return FittedCost.from_json(data) if data["model"] == "fitted" else PowerCost(float(data.get("exponent", DECLARED)))


def fit_cost(timings: Iterable[Timing], exponent: float) -> FittedCost:
    """Laws of both groups from the times so far, in any order. Times that are not positive numbers are left out.

    One slow call (a busy node, a first call that compiles) must not bend the law: each size counts by its median, and
    the laws let go of sizes that are far off. The exponent is `exponent` until three sizes are timed; a group with
    fewer than three follows the shape of the other where that has them.
    """
    times: dict[str, dict[int, list[float]]] = {CELLS: {}, CONSTANTS: {}}
    for t in timings:
        if np.isfinite(t.core_seconds) and t.core_seconds > 0:
            times[_group(t.role)].setdefault(max(t.natoms, SMALLEST), []).append(t.core_seconds)
    full = {group: _law(sizes, exponent) for group, sizes in times.items() if len(sizes) >= ENOUGH}
    laws = {}
    for group, sizes in times.items():
        if group in full:
            laws[group] = full[group]
        elif sizes and full:
            laws[group] = _scaled(next(iter(full.values())), sizes)
        elif sizes:
            laws[group] = _law(sizes, exponent, fixed=True)
    return FittedCost(exponent, laws)


def _group(role: str) -> str:
    return CONSTANTS if role == "force constants" else CELLS


def _medians(sizes: Mapping[int, list[float]]) -> tuple[Array, Array, Array]:
    """Sizes in units of the smallest (S,), log of the median times, weights: the roots of the counts."""
    known = sorted(sizes)
    x = np.array(known) / SMALLEST
    logs = np.log([np.median(sizes[n]) for n in known])
    return x, logs, np.sqrt([len(sizes[n]) for n in known])


def _law(sizes: Mapping[int, list[float]], declared: float, *, fixed: bool = False) -> Law:
    """The law of one group; with `fixed` the exponent is the declared one, and a floor needs a second size."""
    x, logs, weights = _medians(sizes)
    p = np.array([declared]) if fixed else np.linspace(*EXPONENTS, 61)
    ratio = np.append(0.0, np.geomspace(*FLOORS, 61)) if len(x) > 1 else np.zeros(1)
    for _ in range(5):  # each time nearer about the best: the loss has many valleys, and few points to follow them
        shape = np.log(ratio[None, :, None] + x ** p[:, None, None])
        levels, loss = _levels(logs - shape, weights)
        loss = loss + LEANING * np.abs(p - declared)[:, None]
        i, j = np.unravel_index(int(loss.argmin()), loss.shape)
        best = float(p[i]), float(ratio[j]), float(np.exp(levels[i, j]))
        if not fixed:
            step = (p[-1] - p[0]) / (len(p) - 1)
            p = np.unique(np.clip(np.append(np.linspace(p[i] - 3 * step, p[i] + 3 * step, 31), p[i]), *EXPONENTS))
        if ratio[j] > 0:
            near = ratio[max(j - 3, 0) : j + 4]
            ratio = np.unique(np.append(np.geomspace(near[near > 0].min(), near.max(), 31), ratio[j]))
    exponent, floor, scale = best
    return Law(floor * scale, scale, exponent, len(x), sum(map(len, sizes.values())))


def _levels(differences: Array, weights: Array) -> tuple[Array, Array]:
    """The level (...,) that brings a shape nearest to the times, for `differences` (..., S) of their logs; its loss.

    Cauchy's loss, which lets go of a point that is far off; the best of the points' own levels, then a weighted mean.
    """

    def loss(level: Array) -> Array:
        r = (differences - level[..., None]) / SPREAD
        return np.asarray((weights * np.log1p(r * r)).sum(axis=-1))

    level, best = differences[..., 0], loss(differences[..., 0])
    for k in range(1, differences.shape[-1]):
        other = loss(differences[..., k])
        level, best = np.where(other < best, differences[..., k], level), np.minimum(other, best)
    for _ in range(3):
        w = weights / (1 + ((differences - level[..., None]) / SPREAD) ** 2)
        level = (w * differences).sum(axis=-1) / w.sum(axis=-1)
    return level, loss(level)


def _scaled(law: Law, sizes: Mapping[int, list[float]]) -> Law:
    """`law` at the level of a group of few sizes."""
    x, logs, weights = _medians(sizes)
    expected = np.log([law(round(SMALLEST * s)) for s in x])
    factor = float(np.exp(_levels(logs - expected, weights)[0]))
    return Law(factor * law.floor, factor * law.scale, law.exponent, len(x), sum(map(len, sizes.values())))
