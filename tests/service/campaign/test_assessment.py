"""Where surrogate and oracle are one, every term of T2 and T3 vanishes; a known difference is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.assessment import Assessment, assess, far_field
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.observed import DefectLabel, Observed
from farfield.service.estimates.solution import Solution
from farfield.service.surrogate import Surrogate

EMT = EMTOracle()


@dataclass(frozen=True)
class Case:
    loop: Loop
    start: Decision
    solution: Solution


@pytest.fixture(scope="module")
def case() -> Case:
    """A surrogate of copper with its solution, and the decision that bought the perfect crystal."""
    config = CampaignConfig.from_mapping(
        {"host": {"lattice_constant": 3.59}, "target": {"size": 4}, "surrogate": {"level": 1}}
    )
    loop = Loop(config, OracleInfo("emt"))
    start = None
    for _ in range(2):
        start = loop.ask()
        assert isinstance(start, Decision)
        answers = []
        for p in start.proposals:
            v = EMT.evaluate(p.atoms, ("E", "F", "V")).values
            answers.append(Answer(p.ordinal, f"{start.number}-{p.ordinal}", float(v["E"]), v["F"], v["V"]))
        loop.tell(start, answers)
    assert start is not None
    assert loop.solution is not None
    return Case(loop, start, loop.solution)


def measured(case: Case, oracle: Surrogate, rattle: float) -> Assessment:
    """The solution against `oracle` on 3x3x3, with the perfect crystal as `oracle` has it."""
    loop, problem = case.loop, case.loop.problem
    observed = Observed()
    observed.add(
        case.start, [Answer(p.ordinal, f"s{p.ordinal}", *oracle.evaluate(p.atoms)) for p in case.start.proposals]
    )
    cell = problem.cell((3, 3, 3))
    xi = rattle * np.random.default_rng(0).normal(size=(cell.natoms, 3))
    atoms = cell.atoms(cell.restrict(problem.target, case.solution.u) + xi)
    energy, forces, virial = oracle.evaluate(atoms)
    label = DefectLabel(2, 0, atoms, (3, 3, 3), "verification", energy, forces, virial, "v")
    reference = observed.references[(1, 1, 1)][0]
    assert loop.solution is case.solution
    return assess(case.solution, label, observed, problem, reference, far_field(case.solution, observed, problem))


@pytest.mark.parametrize("rattle", [0.0, 0.02])
def test_a_surrogate_that_is_the_oracle_has_no_error(case: Case, rattle: float) -> None:
    a = measured(case, case.solution.surrogate, rattle)
    assert a.eta_geo < 1e-6
    assert abs(a.energy.total) < 1e-6
    for term in (a.geometry.core, a.geometry.far, a.v, a.fold, a.bound_v, a.bound_fold, a.eps_F, a.eps_E):
        assert abs(term) < 1e-5
    assert a.far.eps_FC < 1e-6
    assert a.far.virial.total < 1e-4


def test_a_nearby_oracle_has_the_error_of_first_order(case: Case) -> None:
    """Coefficients moved by s: every linear term doubles with s, and eta is what the oracle's own relaxation finds."""
    basis, c = case.solution.surrogate.basis, case.solution.surrogate.coefficients
    move = 1e-4 * np.random.default_rng(1).normal(size=c.shape) * np.abs(c)
    etas = []
    for s in (1.0, 2.0):
        oracle = Surrogate(basis, c + s * move)
        a = measured(case, oracle, 0.0)
        etas.append(a.eta_geo)
        assert a.far.eps_FC > 0
    assert etas[1] / etas[0] == pytest.approx(2.0, rel=0.05)
    from farfield.service.estimates.solution import relaxed

    target = case.loop.problem.target
    truth = relaxed(Surrogate(basis, c + 2.0 * move), target, [case.solution.u], force_tolerance=1e-7)
    true = target.norm(truth.u - case.solution.u)
    assert etas[1] / true == pytest.approx(1.0, abs=0.5)
