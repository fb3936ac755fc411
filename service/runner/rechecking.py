"""Labels that others computed are believed when the oracle, asked again, says the same of three of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from farfield.db.bulk import Frame
from farfield.errors import RecordError
from farfield.oracles.contract import Tolerances
from farfield.oracles.noise import Noise
from farfield.oracles.observation import Observations

__all__ = ["Rechecked", "chosen", "recheck"]

COUNT = 3
SIGMAS = 6.0
"""Deviations that the oracle's own noise explains."""


@dataclass(frozen=True)
class Rechecked:
    """One frame that was asked again: largest differences by kind (energies and virials per atom), core-seconds."""

    name: str
    natoms: int
    differences: dict[str, float]
    core_seconds: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return {
            "frame": self.name,
            "natoms": self.natoms,
            "differences": self.differences,
            "core_seconds": self.core_seconds,
        }


def chosen(frames: Iterable[Frame], count: int = COUNT) -> list[Frame]:
    """The frames to ask again: of all with most kinds of labels the one with the largest force, then the smallest
    cells, each once. One pass, flat memory."""
    far: Frame | None = None
    small: list[Frame] = []
    for frame in frames:
        if far is None or (len(frame.values), -len(frame.atoms), _force(frame)) > (
            len(far.values), -len(far.atoms), _force(far),
        ):  # fmt: skip
            far = frame
        small = sorted([*small, frame], key=lambda f: (-len(f.values), len(f.atoms)))[: count + 1]
    if far is None:
        return []
    return [far, *(f for f in small if f is not far)][:count]


def recheck(
    frames: Iterable[Frame],
    evaluate: Callable[[Any, tuple[str, ...]], Observations],
    tolerances: Tolerances,
    noise: Noise | None = None,
) -> list[Rechecked]:
    """Ask the oracle for the labels of `frames` anew. Raises RecordError where one is off beyond `tolerances` and six
    deviations of the oracle's measured `noise`, and OracleError where it does not answer."""
    limits = {"E": tolerances.energy, "F": tolerances.force, "V": tolerances.virial}
    if noise is not None:
        own = {"E": noise.energy, "F": noise.force, "V": noise.virial or 0.0}
        limits = {k: max(v, SIGMAS * own[k]) for k, v in limits.items()}
    out = []
    for frame in frames:
        values, n = frame.values, len(frame.atoms)
        answer = evaluate(frame.atoms, tuple(values))
        off: dict[str, float] = {}
        for kind, value in values.items():
            if kind not in answer.values:
                raise RecordError(
                    f"the oracle does not answer {kind}, which {frame.name} has; import it for another one"
                )
            off[kind] = float(np.abs(np.asarray(value) - np.asarray(answer.values[kind])).max())
            off[kind] /= 1 if kind == "F" else n
        out.append(Rechecked(frame.name, n, off, answer.seconds or 0.0))
        for kind, difference in off.items():
            if difference > limits[kind]:
                unit = "eV/Å" if kind == "F" else "eV/atom"
                raise RecordError(
                    f"{frame.name}: its {kind} is {difference:.3g} {unit} off the oracle's answer ({limits[kind]:.2g} "
                    "allowed); nothing was imported: these labels are of other settings, or under other keys"
                )
    return out


def _force(frame: Frame) -> float:
    return 0.0 if frame.forces is None else float(np.linalg.norm(frame.forces, axis=1).max())
