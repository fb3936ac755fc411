"""Cells in another electronic state: kept out, asked again from their parent's moments, and the end where they stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from farfield.oracles.ase_calculator import AseOracle
from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, Note, OracleInfo, Stop
from farfield.service.campaign.electronic import inherited, shift
from farfield.service.campaign.loop import Loop
from farfield.service.cells import Defect, DefectCell, Host

EMT = EMTOracle()
CU = Host.named("fcc", ["Cu"], 3.6)
CONFIG = CampaignConfig.from_mapping(
    {"target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05}, "surrogate": {"level": 0}}
)


def spins(atoms: Atoms, stubborn: bool) -> Observations:
    """EMT and, on each atom, a double well of its moment: minima at 0 and 1 mu_B, the first 0.05 eV above the other.

    The moment falls into the well it starts in. Cells of 47 atoms start, where nothing else is said, at 0.
    """
    start = atoms.get_initial_magnetic_moments() if atoms.has("initial_magmoms") else np.ones(len(atoms))
    if len(atoms) == 47 and (stubborn or not atoms.has("initial_magmoms")):
        start = np.zeros(len(atoms))
    moments = np.where(start > 0.5, 1.0, 0.0)
    values = EMT.evaluate(atoms, ("E", "F", "V")).values
    well = 16 * moments**2 * (1 - moments) ** 2 + 0.05 * (1 - moments)
    return Observations({**values, "E": float(values["E"]) + float(well.sum())}, moments=moments)


def play(stubborn: bool) -> tuple[Loop, Stop, list[Decision], list[list[Answer]], list[Note]]:
    loop = Loop(CONFIG, OracleInfo("spins"))
    decisions: list[Decision] = []
    told: list[list[Answer]] = []
    notes: list[Note] = []
    while isinstance(asked := loop.ask(), Decision):
        answers = []
        for p in asked.proposals:
            o = spins(p.atoms, stubborn)
            v = o.values
            key = f"{asked.number}/{p.ordinal}"
            answers.append(Answer(p.ordinal, key, float(v["E"]), v["F"], v["V"], moments=o.moments))  # type: ignore[arg-type]
        decisions.append(asked)
        told.append(answers)
        loop.tell(asked, answers)
        notes += loop.notes()
        assert len(told) < 12
    return loop, asked, decisions, told, notes


def test_a_rung_that_lost_its_moments_is_asked_again_from_its_parents() -> None:
    loop, stop, decisions, told, notes = play(stubborn=False)
    assert stop.converged
    assert [(n.kind, n.calculation) for n in notes] == [("another electronic state", "2/0")]
    assert "moved by 1.00 mu_B" in notes[0].message
    first, (again,) = decisions[2].proposals[0], decisions[3].proposals  # strained cells follow the first
    assert (again.role, again.rung) == ("verification", first.rung)
    assert np.array_equal(again.atoms.positions, first.atoms.positions)
    assert np.array_equal(again.atoms.get_initial_magnetic_moments(), np.ones(47))
    assert "from its parent's moments" in decisions[3].reason
    fitted = {x.calculation for x in loop.observed.defects}
    assert "3/0" in fitted
    assert "2/0" not in fitted
    assert loop.state.estimates[0]["decision"] == 3
    for number in range(len(decisions) - 1):
        resumed = Loop.restore(CONFIG, OracleInfo("spins"), decisions[: number + 1], told[: number + 1]).ask()
        assert isinstance(resumed, Decision)
        assert resumed.state == decisions[number + 1].state
        assert resumed.inputs == decisions[number + 1].inputs


def test_a_rung_that_stays_in_the_other_state_ends_the_campaign() -> None:
    _, stop, decisions, _, notes = play(stubborn=True)
    assert (stop.converged, stop.exit_code) == (False, 3)
    assert stop.reason.startswith("another electronic state")
    assert len(decisions) == 4
    assert len(notes) == 1


@pytest.mark.parametrize("order", [lambda i, j, k: 1.0, lambda i, j, k: (-1.0) ** (i + j + k)])
def test_a_magnetic_order_is_inherited_on_every_site(order: Callable[[int, int, int], float]) -> None:
    """On 2x2x2 and 2x2x4 cells an order of period 2 is the same function of the site; one site of the larger cell has
    the vacancy for its image in the smaller, and takes the median."""
    defect = Defect.named(CU, "vacancy")
    small, large = (DefectCell(CU, defect, size) for size in ((2, 2, 2), (2, 2, 4)))

    def moments(cell: DefectCell) -> Any:
        places = np.stack(np.unravel_index(cell.sites // CU.nb, cell.size), axis=1)
        return np.array([order(*place) * (1 + 0.1 * b) for place, b in zip(places, cell.sites % CU.nb, strict=True)])

    found = inherited(small, moments(small), large)
    assert (found != moments(large)).sum() == 1
    assert np.median(moments(small)) in found[found != moments(large)]
    assert shift(small, moments(small), large, moments(large)) == 0
    assert shift(small, moments(small), large, -moments(large)) == 0  # time reversal
    turned = moments(large)
    turned[small.map_to(large)[3]] *= -1
    assert shift(small, moments(small), large, turned) >= 2


def test_the_ase_oracle_takes_and_gives_moments() -> None:
    oracle = AseOracle("ase.calculators.emt.EMT", analytic=True)
    atoms = CU.atoms()
    assert oracle.evaluate(atoms, ("E",)).moments is None
    seen = {}

    class Spinning(type(oracle._made)):  # type: ignore[misc]
        def calculate(self, atoms: Atoms, *rest: Any) -> None:
            super().calculate(atoms, *rest)
            seen["moments"] = atoms.get_initial_magnetic_moments()
            self.results["magmoms"] = 0.9 * seen["moments"]

    oracle._made = Spinning()
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.5, 0.0])
    found = oracle.evaluate(atoms, ("E", "F")).moments
    assert np.array_equal(seen["moments"], [1.0, -1.0, 0.5, 0.0])
    assert found is not None
    assert np.allclose(found, [0.9, -0.9, 0.45, 0.0])
