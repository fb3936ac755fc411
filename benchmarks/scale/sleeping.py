"""An oracle that sleeps as long as a plane-wave code might work, and what runs it inside the worker itself.

Seconds of a call on N atoms: scale (N / 32)^2.5 exp(spread x), x normal and fixed by the cell. What it answers is
different for every cell, passes the gate and means nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from farfield.oracles.gate import demand
from farfield.oracles.observation import Observations
from farfield.oracles.oracle import MeshRule

EXPONENT, SPREAD = 2.5, 0.3
SIZES = (((2, 2, 2), 0.4), ((2, 2, 3), 0.3), ((2, 3, 3), 0.2), ((3, 3, 3), 0.1))
"""Supercells of fcc copper and their shares."""
MEAN = sum(share * (np.prod(size) / 8) ** EXPONENT for size, share in SIZES) * np.exp(SPREAD**2 / 2)
"""Mean seconds of a call in units of `scale`."""


class SleepingOracle:
    """Sleeps; `scale` is the median time of a call on 32 atoms, s. How long it takes is no part of what it is."""

    name = "sleeping"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "none"
    analytic = True

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def fingerprint(self) -> Mapping[str, Any]:
        return {"adapter": "sleeping", "physics": 1}

    def cost(self, natoms: int) -> float:
        return self.scale * (natoms / 32) ** EXPONENT

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        began = time.perf_counter()
        digest = hashlib.sha256(np.ascontiguousarray(atoms.positions).tobytes()).digest()
        rng = np.random.default_rng(list(digest[:8]))
        time.sleep(self.cost(len(atoms)) * float(np.exp(SPREAD * rng.normal())))
        forces = rng.normal(size=(len(atoms), 3))
        values: dict[str, Any] = {"E": rng.normal(), "F": forces - forces.mean(axis=0), "V": rng.normal(size=6)}
        return Observations({k: values[k] for k in kinds}, seconds=time.perf_counter() - began)


class Inside:
    """Stands for `oracles.sandbox.Sandbox` where calls only sleep: a thousand supervisors with their children would
    measure this machine's memory. The gate is the sandbox's own; there is nothing to cancel or to limit."""

    def __init__(
        self, oracle: str, parameters: Mapping[str, Any], wall_time: float, memory: float, folder: Path, *, base: str
    ) -> None:
        self.oracle = SleepingOracle(**parameters)

    def evaluate(self, atoms: Atoms, kinds: Sequence[str], *, call: str, gated: bool) -> Observations:
        observations = self.oracle.evaluate(atoms, kinds)
        demand(atoms, kinds, observations)
        return observations

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


def cells(count: int, seed: int = 0) -> list[Atoms]:
    """`count` different cells in random order of sizes."""
    rng = np.random.default_rng(seed)
    plain = [bulk("Cu", cubic=True) * size for size, _ in SIZES]
    out = []
    for which in rng.choice(len(SIZES), size=count, p=[share for _, share in SIZES]):
        atoms = plain[which].copy()
        atoms.positions += np.round(0.05 * rng.normal(size=atoms.positions.shape), 8)
        out.append(atoms)
    return out
