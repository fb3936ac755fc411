"""One tiny campaign with a real force field, driven by hand through the pure loop."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.estimates import Estimate
from farfield.service.report.data import CampaignData, Label, Round

CONFIG = {
    "campaign": {"name": "tiny"},
    "surrogate": {"level": 0},
    "target": {"size": 4, "tol_geo": 0.1, "tol_energy": 0.02},
}


@dataclass(frozen=True)
class Told:
    """A decision with its answers, what each cost in core-seconds, and the estimate that came of it."""

    decision: Decision
    answers: list[Answer]
    seconds: list[float]
    estimate: Estimate | None


@dataclass(frozen=True)
class Driven:
    """A campaign that was run to its end."""

    config: CampaignConfig
    fingerprint: dict[str, object]
    told: list[Told]
    stop: Stop
    loop: Loop


def answer(atoms: Atoms, ordinal: int, kinds: tuple[str, ...]) -> Answer:
    """What EMT says of a cell, only the kinds asked."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    return Answer(
        ordinal,
        f"call-{ordinal}",
        atoms.get_potential_energy() if "E" in kinds else None,
        atoms.get_forces() if "F" in kinds else None,
        -atoms.get_stress() * atoms.get_volume() if "V" in kinds else None,
    )


@pytest.fixture(scope="session")
def driven() -> Driven:
    config = CampaignConfig.from_mapping(CONFIG)
    loop = Loop(config, OracleInfo("emt"))
    told: list[Told] = []
    while isinstance(decision := loop.ask(), Decision):
        answers, seconds = [], []
        for p in decision.proposals:
            begin = time.perf_counter()
            answers.append(answer(p.atoms, p.ordinal, p.kinds))
            seconds.append(time.perf_counter() - begin)
        loop.tell(decision, answers)
        told.append(Told(decision, answers, seconds, loop.estimate()))
    return Driven(config, dict(EMTOracle().fingerprint()), told, decision, loop)


@pytest.fixture(scope="session")
def data(driven: Driven) -> CampaignData:
    rounds = []
    for t in driven.told:
        labels = tuple(
            Label(
                t.decision.number, p.ordinal, p.atoms, p.kinds, p.role, p.term, p.rung, p.meta,
                a.energy, a.forces, a.virial, None, s, 1,
            )
            for p, a, s in zip(t.decision.proposals, t.answers, t.seconds, strict=True)
        )  # fmt: skip
        d = t.decision
        rounds.append(Round(d.number, d.reason, labels, d.state, d.summary, t.estimate))
    return CampaignData(
        "tiny",
        json.loads(driven.config.to_json()),
        driven.fingerprint,
        tuple(rounds),
        "converged" if driven.stop.converged else "ended",
        driven.stop.reason,
    )
