"""The contract passes for sound force fields, and each flaw fails the check that is named after it and no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from farfield.errors import OracleError
from farfield.oracles import contract
from farfield.oracles.ase_calculator import AseOracle
from farfield.oracles.contract import OracleContract, periodic_cell
from farfield.oracles.emt import EMTOracle
from farfield.oracles.laws import measure_noise
from farfield.oracles.observation import VOIGT, Observations

Flaw = Callable[[Atoms, dict[str, Any]], None]
MEASURED = {"energies across meshes", "noise", "time of a call"}
"""Of an analytic oracle these are figures without a verdict, or there is nothing to judge."""


def cell(symbol: str = "Cu") -> Atoms:
    return periodic_cell("fcc", symbol)


class Flawed(EMTOracle):
    """EMT with something done to its answer."""

    def __init__(self, flaw: Flaw, analytic: bool = True) -> None:
        super().__init__()
        self.flaw, self.analytic = flaw, analytic

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = super().evaluate(atoms, ("E", "F", "V"))
        self.flaw(atoms, answer.values)
        return Observations({k: answer.values[k] for k in kinds})


def failed(results: list[contract.CheckResult]) -> set[str]:
    return {r.name for r in results if r.passed is False}


class TestEMT(OracleContract):
    """The class that plug-in authors inherit, on an oracle of ours."""

    def make_oracle(self) -> EMTOracle:
        return EMTOracle()

    def make_cell(self) -> Atoms:
        return cell("Al")


def test_emt_fulfils_all() -> None:
    results = contract.run(EMTOracle(), cell())
    assert [r.name for r in results] == list(contract.CHECKS)
    assert {r.name for r in results if not r.passed} == MEASURED, results
    assert failed(results) == set()
    assert all(r.figure is None or r.bound is None or r.figure <= r.bound for r in results)


def test_a_calculator_of_ase_fulfils_all() -> None:
    parameters = {"sigma": 2.3, "epsilon": 0.1, "rc": 6.0, "smooth": True}
    oracle = AseOracle("ase.calculators.lj.LennardJones", parameters, analytic=True)
    assert {r.name for r in contract.run(oracle, cell()) if not r.passed} == MEASURED


def sign_of_forces(atoms: Atoms, values: dict[str, Any]) -> None:
    values["F"] = -values["F"]


def sign_of_stress(atoms: Atoms, values: dict[str, Any]) -> None:
    values["V"] = -values["V"]


def engineering_shear(atoms: Atoms, values: dict[str, Any]) -> None:
    values["V"] = values["V"] * [1, 1, 1, 2, 2, 2]


def virial_per_atom(atoms: Atoms, values: dict[str, Any]) -> None:
    values["V"] = values["V"] / len(atoms)


def order_of_voigt(atoms: Atoms, values: dict[str, Any]) -> None:
    values["V"] = values["V"][[0, 1, 2, 5, 4, 3]]


def energy_per_atom(atoms: Atoms, values: dict[str, Any]) -> None:
    values["E"] /= len(atoms)


def energy_per_cell_offset(atoms: Atoms, values: dict[str, Any]) -> None:
    values["E"] += 1.0


def egg_box(atoms: Atoms, values: dict[str, Any]) -> None:
    """A potential fixed to the cell; forces and virial are its derivatives, so nothing else is wrong."""
    waves = 2 * np.pi * np.round(atoms.cell.lengths() / 3.6) * [1, 0, 0]
    phase = atoms.get_scaled_positions(wrap=False) @ waves
    values["E"] += 1e-3 * np.cos(phase).sum()
    values["F"] = values["F"] + 1e-3 * np.sin(phase)[:, None] * (np.linalg.inv(atoms.cell.array) @ waves)


def unwrapped(atoms: Atoms, values: dict[str, Any]) -> None:
    values["E"] += 0.1 * (np.abs(np.floor(atoms.get_scaled_positions(wrap=False)))).sum()


def fixed_axis(atoms: Atoms, values: dict[str, Any]) -> None:
    """Energy of the first lattice vector's x component, with the virial that belongs to it."""
    x, y, z = atoms.cell.array[0]
    values["E"] += 0.05 * x
    gradient = np.zeros((3, 3))
    gradient[:, 0] = 0.05 * np.array([x, y, z])
    values["V"] = values["V"] - [0.5 * (gradient[i, j] + gradient[j, i]) for i, j in VOIGT]


def order_of_atoms(atoms: Atoms, values: dict[str, Any]) -> None:
    """An energy that knows which atoms are called the second, third and fourth."""
    if len(atoms) == len(cell()):
        apart = [c.get_scaled_positions()[1:] - c.get_scaled_positions()[0] for c in (atoms, cell())]
        off = apart[0] - apart[1]
        values["E"] += float(np.abs(off - np.round(off)).max() > 0.1)


def swirl(atoms: Atoms, values: dict[str, Any]) -> None:
    """Forces that are no gradient: right at the cell itself, turned about its atoms' places beside it."""
    base = cell()
    step = atoms.positions - base.positions if len(atoms) == len(base) else np.ones((1, 3))
    if np.abs(step).max() < 0.2 and np.array_equal(atoms.cell.array, base.cell.array):
        step -= step.mean(axis=0)
        values["F"] = values["F"] + np.roll(step, 1, axis=0) - np.roll(step, -1, axis=0)


@pytest.mark.parametrize(
    ("flaw", "checks"),
    [
        (sign_of_forces, {"F = -dE/dx"}),
        (sign_of_stress, {"V = -dE/d(strain)"}),
        (engineering_shear, {"V = -dE/d(strain)", "rotation"}),
        (order_of_voigt, {"V = -dE/d(strain)", "rotation"}),
        (virial_per_atom, {"V = -dE/d(strain)"}),
        (energy_per_atom, {"doubled cell"}),
        (energy_per_cell_offset, {"doubled cell"}),
        (egg_box, {"translation"}),
        (unwrapped, {"periodic images"}),
        (fixed_axis, {"rotation"}),
        (order_of_atoms, {"permutation"}),
        (swirl, {"force constants"}),
    ],
)
def test_a_flaw_fails_its_check_and_no_other(flaw: Flaw, checks: set[str]) -> None:
    results = contract.run(Flawed(flaw), cell())
    assert failed(results) == checks, [r for r in results if not r.passed]


def test_figure_bound_and_hint_are_told() -> None:
    (result,) = [r for r in contract.run(Flawed(sign_of_forces), cell()) if r.name == "F = -dE/dx"]
    assert result.verdict == "fail"
    assert result.figure is not None
    assert result.bound == pytest.approx(1e-4)
    assert result.figure > 1
    assert "the sign is wrong" in result.detail


class Sampled(EMTOracle):
    """EMT and an error per atom of its k-point mesh, which is that of all its points, or (`wrong`) of its divisions."""

    mesh = "fixed"
    analytic = False

    def __init__(self, points: int = 4, wrong: bool = False, tell: bool = True) -> None:
        super().__init__()
        self.points, self.wrong, self.tell = points, wrong, tell

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = super().evaluate(atoms, kinds)
        cells = np.round(atoms.cell.lengths() / 3.6).astype(int)
        mesh = np.ceil(self.points / cells).astype(int)
        if "E" in kinds:
            answer.values["E"] += len(atoms) * 0.1 / float((mesh * (1 if self.wrong else cells)).sum())
        if self.tell:
            answer.settings["mesh"] = mesh.tolist()
        return answer


@pytest.mark.parametrize(
    ("oracle", "passed", "says"),
    [
        (Sampled(), True, "2x1x1 cells with the mesh 2x4x4 against one with 4x4x4"),
        (Sampled(3), True, "3x1x1 cells with the mesh 1x3x3 against one with 3x3x3"),
        (Sampled(wrong=True), False, "2x1x1 cells with the mesh 2x4x4"),
        (Sampled(5), None, "no folded mesh of [5, 5, 5] among 3x5x5"),
        (Sampled(tell=False), None, "does not tell its mesh"),
        (EMTOracle(), None, "has no mesh"),
    ],
)
def test_energies_of_folded_meshes_compare(oracle: EMTOracle, passed: bool | None, says: str) -> None:
    (result,) = contract.run(oracle, cell(), names=["energies across meshes"])
    assert result.passed is passed
    assert says in result.detail
    assert passed is None or result.bound == pytest.approx(1e-4)


class Settable(Sampled):
    """The same with a mesh that can be set through the atoms; `deaf`: it is not obeyed; `mute`: it cannot be asked."""

    mesh = "settable"

    def __init__(self, points: int = 4, wrong: bool = False, deaf: bool = False, mute: bool = False) -> None:
        super().__init__(points, wrong)
        self.deaf = deaf
        if not mute:
            self.mesh_of = self._mesh

    def _mesh(self, atoms: Atoms) -> tuple[int, ...]:
        if "mesh" in atoms.info and not self.deaf:
            return tuple(atoms.info["mesh"])
        cells = np.round(atoms.cell.lengths() / 3.6)
        return tuple(int(m) for m in np.ceil(self.points / cells))

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = EMTOracle.evaluate(self, atoms, kinds)
        if "E" in kinds:
            cells = 1 if self.wrong else np.round(atoms.cell.lengths() / 3.6)
            answer.values["E"] += len(atoms) * 0.1 / float((np.array(self._mesh(atoms)) * cells).sum())
        return answer


@pytest.mark.parametrize(
    ("oracle", "passed", "says"),
    [
        (Settable(), True, "2x1x1 cells with the mesh 2x4x4 against one with 4x4x4"),
        (Settable(5), True, "2x1x1 cells with the mesh 3x5x5 against one with 6x5x5"),
        (Settable(5, wrong=True), False, "2x1x1 cells with the mesh 3x5x5"),
        (Settable(5, deaf=True), False, "was given the mesh (6, 5, 5) and gets (5, 5, 5)"),
        (Settable(mute=True), False, "has no method mesh_of"),
    ],
)
def test_a_mesh_that_can_be_set_is_obeyed(oracle: EMTOracle, passed: bool, says: str) -> None:
    (result,) = contract.run(oracle, cell(), names=["energies across meshes"])
    assert result.passed is passed
    assert says in result.detail


class PlaneWaves(Flawed):
    """A mesh, and the Pulay stress of a fixed cut-off: the virial is off by the same on the three axes."""

    mesh = "fixed"

    def __init__(self, flaw: Flaw) -> None:
        def pulay(atoms: Atoms, values: dict[str, Any]) -> None:
            values["V"] = values["V"] + 0.1 * len(atoms) * np.array([1, 1, 1, 0, 0, 0])
            flaw(atoms, values)

        super().__init__(pulay, analytic=False)


def test_the_pulay_stress_is_told_and_hides_no_wrong_sign() -> None:
    name = "V = -dE/d(strain)"
    (sound,) = contract.run(PlaneWaves(lambda atoms, values: None), cell(), names=[name])
    assert sound.passed
    assert "Pulay offset 0.09" in sound.detail
    for flaw in (sign_of_stress, engineering_shear, virial_per_atom):
        assert failed(contract.run(PlaneWaves(flaw), cell(), names=[name])) == {name}
    no_mesh = Flawed(lambda a, v: v.update(V=v["V"] + 0.1 * len(a) * np.array([1, 1, 1, 0, 0, 0])), analytic=False)
    assert failed(contract.run(no_mesh, cell(), names=[name])) == {name}


class Stale(EMTOracle):
    """Always one call behind."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Observations | None = None

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer, self.last = self.last, super().evaluate(atoms, kinds)
        return self.last if answer is None else answer


class Meddling(EMTOracle):
    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        atoms.wrap()
        atoms.positions += 0.1
        return super().evaluate(atoms, kinds)


class Ageing(EMTOracle):
    """A fingerprint with the number of the call in it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def fingerprint(self) -> dict[str, Any]:
        self.asked += 1
        return {**super().fingerprint(), "call": self.asked}


class Shifty(EMTOracle):
    """Another energy when it is asked for nothing else."""

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = super().evaluate(atoms, kinds)
        if tuple(kinds) == ("E",):
            answer.values["E"] = float(answer.values["E"]) + 0.1
        return answer


class Generous(EMTOracle):
    """Answers all it can, whatever is asked."""

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        return super().evaluate(atoms, ("E", "F", "V"))


class Shapeless(EMTOracle):
    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = super().evaluate(atoms, kinds)
        answer.values["F"] = np.zeros((len(atoms) + 1, 3))
        return answer


@pytest.mark.parametrize(
    ("make", "check", "says"),
    [
        (Stale, "own answer", "bit for bit"),
        (Meddling, "answer", "changed the atoms"),
        (Ageing, "fingerprint", "differs from call to call"),
        (Shapeless, "answer", "bad answer: F has shape"),
        (Shifty, "declared kinds", "E asked alone differs by 0.1"),
        (Generous, "declared kinds", "bad answer: F was not asked for; V was not asked for"),
    ],
)
def test_what_is_wrong_with_every_answer_is_said_once(make: type[EMTOracle], check: str, says: str) -> None:
    results = contract.run(make(), cell())
    assert failed(results) == {check}
    assert says in next(r.detail for r in results if r.name == check)
    later = [r for r in results if r.passed is None and r.name not in MEASURED]
    assert bool(later) == (check in ("answer", "own answer"))
    assert all(r.detail.startswith("not judged: the check") for r in later)


def noisy(size: float) -> Flaw:
    source = np.random.default_rng(5)

    def flaw(atoms: Atoms, values: dict[str, Any]) -> None:
        push = source.normal(size=(len(atoms), 3))
        values["E"] += size * source.normal()
        values["F"] = values["F"] + size * (push - push.mean(axis=0))
        values["V"] = values["V"] + size * source.normal(size=6)

    return flaw


def test_noise_fails_one_check_by_what_the_oracle_declares() -> None:
    tight = contract.Tolerances()
    assert failed(contract.run(Flawed(noisy(1e-3)), cell(), tolerances=tight)) == {"repeatability"}
    assert failed(contract.run(Flawed(noisy(1e-9)), cell())) == {"repeatability"}  # analytic: every bit
    assert failed(contract.run(Flawed(noisy(1e-2), analytic=False), cell(), tolerances=tight)) == {"noise"}
    assert failed(contract.run(Flawed(noisy(1e-4), analytic=False), cell())) == set()


def test_a_wrong_sign_is_seen_through_noise() -> None:
    def flaw(atoms: Atoms, values: dict[str, Any]) -> None:
        values["F"] = -values["F"]
        noisy(1e-4)(atoms, values)

    assert failed(contract.run(Flawed(flaw, analytic=False), cell())) == {"F = -dE/dx"}


def test_noise_is_the_standard_deviation_between_equal_cells() -> None:
    atoms, size = cell() * (2, 2, 2), 0.01
    oracle = Flawed(noisy(size), analytic=False)
    found = [measure_noise(lambda a: oracle.evaluate(a, ("E", "F", "V")), atoms) for _ in range(20)]
    n = len(atoms)
    assert np.sqrt(np.mean([f.force**2 for f in found])) == pytest.approx(size, rel=0.1)
    assert np.sqrt(np.mean([f.energy**2 for f in found])) * n == pytest.approx(size, rel=0.4)
    assert np.sqrt(np.mean([f.virial**2 for f in found])) * n == pytest.approx(size, rel=0.2)


def test_checks_that_need_a_kind_that_is_lacking_are_left_out() -> None:
    oracle = EMTOracle()
    oracle.supports = frozenset({"E", "F"})
    results = {r.name: r for r in contract.run(oracle, cell())}
    assert results["V = -dE/d(strain)"].passed is None
    assert "does not give V" in results["V = -dE/d(strain)"].detail
    assert {n for n, r in results.items() if not r.passed} == {*MEASURED, "V = -dE/d(strain)", "no jumps"}


def test_an_oracle_that_raises_fails_with_its_message() -> None:
    def refuse(atoms: Atoms, values: dict[str, Any]) -> None:
        raise OracleError("no convergence in 100 cycles", failure="not converged")

    results = contract.run(Flawed(refuse), cell())
    assert failed(results) == {"answer"}
    assert results[0].detail == "not converged: no convergence in 100 cycles"


def test_whatever_else_an_oracle_raises_or_answers_is_a_failed_check() -> None:
    def stumble(atoms: Atoms, values: dict[str, Any]) -> None:
        values["energy"]

    assert contract.run(Flawed(stumble), cell())[0].detail == "crashed: KeyError: 'energy'"

    class Bare(EMTOracle):
        def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Any:
            return super().evaluate(atoms, kinds).values

    assert contract.run(Bare(), cell())[0].detail == "bad answer: the oracle answered a dict, not Observations"


def test_an_author_s_class_has_one_test_for_each_check(tmp_path: Path) -> None:
    """In a pytest of its own: a sound oracle passes, and with the wrong sign of V that check alone fails."""
    (tmp_path / "test_mine.py").write_text(
        "from farfield.oracles.contract import OracleContract, periodic_cell\n"
        "from farfield.oracles.emt import EMTOracle\n"
        "class Wrong(EMTOracle):\n"
        "    def evaluate(self, atoms, kinds):\n"
        "        answer = super().evaluate(atoms, kinds)\n"
        "        if 'V' in kinds: answer.values['V'] = -answer.values['V']\n"
        "        return answer\n"
        "class TestMine(OracleContract):\n"
        "    def make_oracle(self): return Wrong()\n"
        "    def make_cell(self): return periodic_cell('fcc', 'Cu')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"1 failed, {len(contract.CHECKS) - len(MEASURED) - 1} passed, {len(MEASURED)} skipped" in done.stdout
    assert "V = -dE/d(strain): worst component" in done.stdout
