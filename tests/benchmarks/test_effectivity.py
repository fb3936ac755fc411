"""The small version of the effectivity proof: one vacancy in W and one in Cu, against the truth in the target cell.

The whole one is `benchmarks/effectivity.py` (docs/effectivity.md).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from required import loaded

from farfield.oracles.emt import EMTOracle
from farfield.oracles.lammps import LammpsOracle
from farfield.oracles.oracle import Oracle

ROOT = Path(__file__).parents[2]


def rehearsal() -> Any:
    """The benchmark's driver: the product's loop in one process, with the oracle's own solution beside it."""
    name = "rehearsal"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "rehearsal.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def tungsten() -> Oracle:
    return loaded("lammps", lambda: LammpsOracle(["W"], "eam/alloy", ["* * W_zhou.eam.alloy W"]))


@pytest.mark.parametrize(
    ("oracle", "host", "size", "rounds"),
    [(tungsten, {"species": "W", "lattice": "bcc"}, 6, 3), (EMTOracle, {"species": "Cu", "lattice": "fcc"}, 5, 3)],
    ids=["W", "Cu"],
)
def test_the_estimate_follows_the_truth(oracle: Callable[[], Oracle], host: Any, size: int, rounds: int) -> None:
    values = {
        "host": host,
        "target": {"size": size, "tol_geo": 0.001, "tol_energy": 0.0001},
        "surrogate": {"level": 1},
    }
    seen = list(islice(rehearsal().rehearse(oracle(), values), rounds))
    assert len(seen) == rounds
    assert len(set(seen[-1].estimate.rung)) == 1  # the last is n x n x n
    for r in seen:
        assert r.estimate.believed
        assert r.true_geometry > 5e-4  # else there is nothing to follow
        assert 1 / 3 <= r.estimate.eta_geo / r.true_geometry <= 3
    last = seen[-1]
    assert 0.5 <= last.estimate.eta_geo / last.true_geometry <= 2
    assert abs(last.estimate.eta_energy - last.true_energy) <= max(1e-3, 0.35 * abs(last.true_energy))
    assert last.true_geometry < 0.5 * seen[0].true_geometry
