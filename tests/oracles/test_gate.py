"""The gate lets sound answers through and names each fault of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii

from farfield.errors import OracleError
from farfield.oracles import gate
from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations

KINDS = ("E", "F", "V")


@pytest.fixture
def atoms() -> Atoms:
    cell = bulk("Cu", cubic=True)
    cell.rattle(0.2, seed=1)
    return cell


def answer(atoms: Atoms, **changes: Any) -> Observations:
    observations = EMTOracle().evaluate(atoms, KINDS)
    observations.values.update(changes)
    return observations


def test_a_sound_answer_passes(atoms: Atoms) -> None:
    sound = answer(atoms)
    assert gate.check(atoms, KINDS, sound) == []
    assert gate.demand(atoms, KINDS, sound) is sound


def net(atoms: Atoms) -> np.ndarray:
    return EMTOracle().evaluate(atoms, ("F",)).values["F"] + np.array([0.0, 0.1, 0.0])


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("E", np.nan, "E is not finite"),
        ("E", -np.inf, "E is not finite"),
        ("E", np.array([1.0]), "shape"),
        ("E", 1 + 1j, "not real"),
        ("E", "1.0", "not real"),
        ("E", -5e8, "beyond"),
        ("F", np.full((4, 3), np.nan), "F is not finite"),
        ("F", np.zeros((3, 4)), "shape"),
        ("F", np.zeros(12), "shape"),
        ("F", np.zeros((5, 3)), "shape"),
        ("F", np.array([[2e3, 0, 0], [-2e3, 0, 0], [0, 0, 0], [0, 0, 0]]), "beyond"),
        ("F", net, "sum to zero"),
        ("V", np.zeros((3, 3)), "shape"),
        ("V", np.array([0, 0, np.inf, 0, 0, 0]), "V is not finite"),
        ("V", np.array([0, 0, 1e5, 0, 0, 0]), "beyond"),
    ],
)
def test_a_fault_is_named_and_is_a_bad_answer(atoms: Atoms, name: str, value: Any, fault: str) -> None:
    wrong = answer(atoms, **{name: value(atoms) if callable(value) else value})
    (sentence,) = gate.check(atoms, KINDS, wrong)
    assert fault in sentence
    with pytest.raises(OracleError, match=fault) as raised:
        gate.demand(atoms, KINDS, wrong)
    assert raised.value.failure == "bad answer"


def test_the_same_answer_for_another_crystal_is_repeated(atoms: Atoms) -> None:
    other = atoms.copy()
    other.rattle(0.01, seed=2)
    assert gate.repeated(atoms, answer(atoms), other, answer(atoms))
    assert not gate.repeated(atoms, answer(atoms), other, answer(other))
    part = answer(atoms)
    del part.values["E"]
    assert gate.repeated(atoms, part, other, answer(atoms))  # judged by the kinds that both have
    zero = Observations({"E": 0.0, "F": np.zeros((4, 3))})
    assert not gate.repeated(atoms, zero, other, zero)
    assert not gate.repeated(atoms, Observations({"E": 1.0}), other, Observations({"V": np.ones(6)}))


def test_equivalent_crystals_may_have_the_same_answer(atoms: Atoms) -> None:
    moved, swapped, turned, mirrored = (atoms.copy() for _ in range(4))
    moved.positions += [0.3, -5.0, 0.7]
    swapped = swapped[[2, 0, 3, 1]]
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    mirrored.positions *= -1
    for same in (moved, swapped, turned, mirrored, atoms.copy()):
        assert not gate.repeated(atoms, answer(atoms), same, answer(atoms))
    relabelled = atoms.copy()
    relabelled.symbols[0] = "Ag"
    assert gate.repeated(atoms, answer(atoms), relabelled, answer(atoms))


def test_bounds_are_plain_numbers(atoms: Atoms) -> None:
    strict = gate.Bounds(energy=1e-9, virial=1e-9, force=1e-9, net_force=0.05)
    assert len(gate.check(atoms, KINDS, answer(atoms), strict)) == 3


def test_what_was_not_asked_is_a_fault(atoms: Atoms) -> None:
    assert gate.check(atoms, ("E", "F"), answer(atoms)) == ["V was not asked for"]


def test_a_kind_that_vanishes_is_a_fault_and_one_said_to_be_missing_is_none(atoms: Atoms) -> None:
    partial = answer(atoms)
    del partial.values["V"]
    (fault,) = gate.check(atoms, KINDS, partial)
    assert fault.startswith("V was asked")
    partial.missing["V"] = "not supported"
    assert gate.check(atoms, KINDS, partial) == []


def test_not_converged_and_not_supported_have_their_own_class(atoms: Atoms) -> None:
    unfinished = answer(atoms)
    unfinished.converged = False
    with pytest.raises(OracleError) as raised:
        gate.demand(atoms, KINDS, unfinished)
    assert raised.value.failure == "not converged"
    assert gate.check(atoms, KINDS, unfinished) == ["the calculation did not converge"]
    with pytest.raises(OracleError, match="no stress here") as raised:
        gate.demand(atoms, ("V",), Observations({}, missing={"V": "no stress here"}))
    assert raised.value.failure == "not supported"


def test_unphysical_cells_are_refused_before_they_are_paid_for(atoms: Atoms) -> None:
    gate.admit(atoms)
    gate.admit(Atoms("H2", [(0, 0, 0), (0.74, 0, 0)], cell=(5, 5, 5), pbc=True))
    for spoil, says in (
        ({"positions": np.full((len(atoms), 3), np.nan)}, "not finite"),
        ({"cell": np.ones((3, 3))}, "no volume"),
        ({"positions": atoms.positions * 0.3}, "apart"),
    ):
        bad = atoms.copy()
        for name, value in spoil.items():
            setattr(bad, name, value)
        with pytest.raises(OracleError, match=says) as caught:
            gate.admit(bad)
        assert caught.value.failure == "input error"
    small = Atoms("Cu", cell=(0.9, 9, 9), pbc=True)  # its own image counts
    with pytest.raises(OracleError, match=r"atoms 0 and 0 are 0\.90 Å apart"):
        gate.admit(small)


@pytest.mark.parametrize("seed", range(30))
def test_a_cell_is_refused_where_atoms_or_images_touch_and_only_there(seed: int) -> None:
    """Against all distances to 125 images, in skewed cells with atoms outside and any periodicity."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3.5, 7.0, 3)) + rng.uniform(-1.5, 1.5, (3, 3))
    size = int(rng.integers(1, 9))
    pbc = rng.random(3) < 0.7
    atoms = Atoms(rng.choice([6, 29, 74], size), cell=cell, pbc=pbc, scaled_positions=rng.uniform(-1, 2, (size, 3)))
    steps = np.array([s for s in np.ndindex(5, 5, 5) if all((k == 2) or p for k, p in zip(s, pbc, strict=True))]) - 2
    apart = np.where(atoms.pbc, np.floor(atoms.get_scaled_positions(wrap=False)), 0.0)
    inside = atoms.positions - apart @ cell
    between = inside[None, :, None] + (steps @ cell)[None, None] - inside[:, None, None]
    distance = np.linalg.norm(between, axis=-1)
    distance[distance < 1e-9] = np.inf  # an atom and itself
    radii = covalent_radii[atoms.numbers]
    touch = bool((distance.min(axis=2) < gate.NEAREST * (radii[:, None] + radii[None])).any())
    if touch:
        with pytest.raises(OracleError, match="apart"):
            gate.admit(atoms)
    else:
        gate.admit(atoms)
