"""Diamond in the loop: shifted cells, internal forces, and a stress mismatch that they leave alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.tersoff import Tersoff, TersoffParameters

from farfield.service.campaign.assessment import far_field
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.training import TrainingSet


def tersoff(atoms: Atoms) -> tuple[float, Any, Any]:
    """Silicon, J. Tersoff, Phys. Rev. B 37, 6991 (1988)."""
    values = (3, 1.0, 1.3258, 4.8381, 2.0417, 0.0, 22.956, 0.33675, 1.3258, 95.373, 3.0, 0.2, 3.2394, 3264.7)
    names = ("m", "gamma", "lambda3", "c", "d", "h", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A")
    atoms = atoms.copy()
    atoms.calc = Tersoff({("Si", "Si", "Si"): TersoffParameters(**dict(zip(names, values, strict=True)))})
    return atoms.get_potential_energy(), atoms.get_forces(), -atoms.get_volume() * atoms.get_stress()


def test_strained_multilattices_shift_and_the_estimate_reads_the_pairs_alone() -> None:
    """Diamond: internal forces and shifted cells go into the fit; the stress mismatch stays that of +e and -e."""
    sections = {
        "host": {"species": ["Si"], "lattice": "diamond"},
        "target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05},
        "surrogate": {"level": 1, "degrees": [6, 8, 6]},
    }
    loop = Loop(CampaignConfig.from_mapping(sections), OracleInfo("tersoff"))
    for _ in range(3):  # strained cells come with the first verification
        asked = loop.ask()
        assert isinstance(asked, Decision)
        loop.tell(
            asked, [Answer(p.ordinal, f"c{asked.number}-{p.ordinal}", *tersoff(p.atoms)) for p in asked.proposals]
        )
    assert loop.solution is not None
    shifted = [s for s in loop.observed.strains if s.shifted]
    assert (len(loop.observed.strains), len(shifted)) == (18, 6)
    assert all(np.abs(s.forces).max() > 0.05 for s in shifted if s.forces is not None)
    frozen = replace(loop.observed, strains=[s for s in loop.observed.strains if not s.shifted])
    with_shifts, without = (far_field(loop.solution, o, loop.problem) for o in (loop.observed, frozen))
    assert with_shifts.virial == without.virial
    assert with_shifts.virial.total > 0
    assert with_shifts.stress is not None
    assert without.stress is not None
    assert np.array_equal(with_shifts.stress.third, without.stress.third)
    reference = loop.observed.references[(1, 1, 1)][0]
    errors = []
    for seen in (loop.observed, frozen):
        training = TrainingSet(loop.problem.basis(1), loop.problem.host, loop.problem.defect)
        training.update(seen, reference)
        surrogate = training.fit({"E": 5.0, "F": 1.0, "V": 2.0, "FC": 0.0}, reference)[1]
        errors.append(np.mean([np.abs(surrogate.evaluate(s.atoms)[1] - s.forces).mean() for s in shifted]))
    assert errors[0] < errors[1]
