"""The laws about derivatives: wrong units and signs are named, jumps are found, smooth potentials have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from farfield.oracles import contract
from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations

Change = Callable[[Atoms, dict[str, Any]], dict[str, Any]]


class Changed:
    """EMT whose answers go through `change`."""

    name, supports, mesh, analytic = "changed", frozenset({"E", "F", "V"}), "none", True

    def __init__(self, change: Change) -> None:
        self.change = change

    def fingerprint(self) -> Mapping[str, Any]:
        return {"adapter": "changed"}

    def cost(self, natoms: int) -> float:
        return 1.0

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        values = self.change(atoms, dict(EMTOracle().evaluate(atoms, ("E", "F", "V")).values))
        return Observations({k: values[k] for k in kinds})


def cell() -> Atoms:
    return contract.off_equilibrium(bulk("Cu", cubic=True))


def judged(change: Change, law: str) -> contract.CheckResult:
    (result,) = contract.run(Changed(change), cell(), names=(law,))
    return result


@pytest.mark.parametrize(
    ("factor", "said"),
    [(-1.0, "the sign is wrong"), (0.0194469, "Ha/bohr"), (0.0388938, "Ry/bohr"), (0.5, "it is half of that")],
)
def test_forces_in_another_unit_are_named(factor: float, said: str) -> None:
    result = judged(lambda _, v: {**v, "F": factor * v["F"]}, "F = -dE/dx")
    assert result.passed is False
    assert said in result.detail


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (lambda a: -1.0, "the sign is wrong"),
        (lambda a: -1 / a.get_volume(), "it looks like the stress in eV/Å^3"),
        (lambda a: 160.21766 / a.get_volume(), "a pressure in GPa"),
        (lambda a: 1 / len(a), "V per atom"),
    ],
)
def test_virials_in_another_unit_are_named(factor: Callable[[Atoms], float], said: str) -> None:
    result = judged(lambda a, v: {**v, "V": factor(a) * v["V"]}, "V = -dE/d(strain)")
    assert result.passed is False
    assert said in result.detail


def test_what_is_merely_wrong_is_not_given_a_name() -> None:
    result = judged(lambda _, v: {**v, "V": v["V"][::-1]}, "V = -dE/d(strain)")
    assert result.passed is False
    assert result.detail.count(";") == 0


def stepped(depth: float) -> Change:
    """Each pair nearer than 5 Å adds `depth` eV to E, and nothing to F and V: a cut-off without a shift."""

    def change(atoms: Atoms, v: dict[str, Any]) -> dict[str, Any]:
        return {**v, "E": float(v["E"]) + 0.5 * depth * len(neighbor_list("i", atoms, 5.0))}

    return change


def test_a_sharp_cut_off_is_found_and_a_smooth_potential_has_none() -> None:
    assert judged(stepped(0.0), "no jumps").passed
    result = judged(stepped(-0.01), "no jumps")
    assert result.passed is False
    assert "a pair is cut off" in result.detail
    assert result.figure == pytest.approx(0.01 * np.round(result.figure / 0.01), abs=1e-4)  # whole pairs


def test_jumps_are_not_looked_for_where_each_call_is_dear() -> None:
    oracle = Changed(lambda _, v: v)
    oracle.analytic = False  # type: ignore[misc]
    (result,) = contract.run(oracle, cell(), names=("no jumps",))
    assert result.passed is None
