"""EMT and any ASE calculator as oracles: conventions, refusals, identity."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, InputError, SCFError, all_changes
from ase.constraints import FixAtoms

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles.ase_calculator import AseOracle
from farfield.oracles.emt import EMTOracle
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.observation import VOIGT
from farfield.oracles.oracle import Oracle

LJ = "ase.calculators.lj.LennardJones"


def cell() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.03, 0.01, 0], [0, 1, 0.02], [0.01, 0, 0.97]], scale_atoms=True)
    atoms.rattle(0.05, seed=7)
    return atoms


class Smeared(Calculator):
    """A toy metal: free energy is the functional of its forces, `energy` the extrapolation; it has no stress."""

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, fail: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fail, self.calls = fail, 0

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if self.fail == "scf":
            raise SCFError("100 cycles")
        if self.fail == "input":
            raise InputError("no such functional")
        self.calls += 1
        self.results = {"energy": -3.0, "free_energy": -3.5, "forces": np.full((len(atoms), 3), 1e-3 * self.calls)}


@pytest.fixture
def smeared(monkeypatch: pytest.MonkeyPatch) -> str:
    module = types.ModuleType("smeared_metal")
    module.Smeared = Smeared  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "smeared_metal", module)
    return "smeared_metal.Smeared"


def test_emt_forces_are_minus_the_gradient() -> None:
    oracle, atoms, step = EMTOracle(), cell(), 1e-4
    forces = oracle.evaluate(atoms, ("F",)).values["F"]
    for i, axis in [(0, 0), (1, 2), (3, 1)]:
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, axis] += sign * step
            energies.append(oracle.evaluate(moved, ("E",)).values["E"])
        assert forces[i, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-6)


def test_emt_virial_is_minus_the_slope_in_strain() -> None:
    oracle, atoms, step = EMTOracle(), cell(), 1e-5
    virial = oracle.evaluate(atoms, ("V",)).values["V"]
    for k, (i, j) in enumerate(VOIGT):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] = sign * step  # a rotation away from the symmetric one: the energy is the same to first order
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(oracle.evaluate(strained, ("E",)).values["E"])
        assert virial[k] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-5)


def test_only_what_was_asked_is_answered_and_the_atoms_stay_as_they_are() -> None:
    atoms = cell()
    before = atoms.copy()
    for oracle in (EMTOracle(), AseOracle(LJ)):
        assert isinstance(oracle, Oracle)
        assert oracle.evaluate(atoms, ("F",)).kinds == ("F",)
        assert atoms == before
        assert atoms.calc is None


def test_constraints_do_not_hide_forces() -> None:
    atoms = cell()
    free = EMTOracle().evaluate(atoms, ("F",)).values["F"]
    atoms.set_constraint(FixAtoms([0, 1, 2, 3]))
    for oracle in (EMTOracle(), AseOracle("ase.calculators.emt.EMT")):
        assert np.array_equal(oracle.evaluate(atoms, ("F",)).values["F"], free)


def test_emt_does_not_remember_the_last_cell() -> None:
    oracle, atoms = EMTOracle(), cell() * (2, 2, 2)
    first = oracle.evaluate(atoms, ("E", "F"))
    moved = atoms.copy()
    moved.rattle(0.1, seed=1)
    oracle.evaluate(moved, ("E", "F"))
    again = oracle.evaluate(atoms, ("E", "F"))
    assert first.values["E"] == again.values["E"]
    assert np.array_equal(first.values["F"], again.values["F"])


def test_emt_refuses_what_it_has_no_parameters_for() -> None:
    oracle = EMTOracle()
    oracle.check_species(["Cu", "Al"])
    with pytest.raises(OracleError, match=r"^emt has no parameters for Si, W; it knows .*Cu") as fault:
        oracle.check_species(["Cu", "W", "Si"])
    assert fault.value.failure == "input error"
    with pytest.raises(OracleError, match="Si"):
        oracle.evaluate(bulk("Si"), ("E",))


def test_the_energy_is_the_one_that_forces_belong_to(smeared: str) -> None:
    answer = AseOracle(smeared).evaluate(cell(), ("E", "F"))
    assert answer.values["E"] == -3.5
    assert answer.energy_zero == -3.0


def test_a_property_that_is_lacking_is_missing_and_the_others_are_kept(smeared: str) -> None:
    oracle = AseOracle(smeared)
    answer = oracle.evaluate(cell(), ("E", "F", "V"))
    assert answer.kinds == ("E", "F")
    assert answer.missing["V"].startswith("not supported")
    with pytest.raises(OracleError) as fault:
        oracle.evaluate(cell(), ("V",))
    assert fault.value.failure == "not supported"


def test_the_same_cell_twice_is_computed_twice(smeared: str) -> None:
    oracle, atoms = AseOracle(smeared), cell()
    first, second = (oracle.evaluate(atoms, ("F",)).values["F"][0, 0] for _ in range(2))
    assert (first, second) == (1e-3, 2e-3)


@pytest.mark.parametrize(("fail", "failure"), [("scf", "not converged"), ("input", "input error")])
def test_errors_of_ase_have_their_class(smeared: str, fail: str, failure: str) -> None:
    with pytest.raises(OracleError) as fault:
        AseOracle(smeared, {"fail": fail}).evaluate(cell(), ("E",))
    assert fault.value.failure == failure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calculator": "LennardJones"}, "not a dotted name"),
        ({"calculator": "ase.calculators.lj.LenardJones"}, "LenardJones"),
        ({"calculator": "nowhere.Calculator"}, "nowhere"),
        ({"calculator": LJ, "supports": ["E", "FC"]}, "FC"),
        ({"calculator": LJ, "parameters": {"sgima": 2.3}}, r"parameters\.sgima is unknown; did you mean sigma"),
        ({"calculator": LJ, "mesh": "settable"}, "settable"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OracleLoadError, match=message) as fault:
        AseOracle(**arguments)
    assert "\n" not in str(fault.value)


def test_mesh_follows_analytic_unless_given() -> None:
    assert [AseOracle(LJ).mesh, AseOracle(LJ, analytic=True).mesh, AseOracle(LJ, mesh="none").mesh] == [
        "fixed",
        "none",
        "none",
    ]


def test_fingerprints_tell_oracles_apart_and_do_not_depend_on_the_order_of_parameters() -> None:
    first = AseOracle(LJ, {"sigma": 2.3, "rc": 6.0})
    assert fingerprint_hash(first) == fingerprint_hash(AseOracle(LJ, {"rc": 6.0, "sigma": 2.3}))
    hashes = {fingerprint_hash(o) for o in (first, AseOracle(LJ, {"sigma": 2.4, "rc": 6.0}), EMTOracle())}
    assert len(hashes) == 3
    assert all(len(h) == 64 for h in hashes)
