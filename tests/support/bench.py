"""A runner with decisions from a list, on a database of its own: real oracle, real sandbox, real cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from loops import Unlearned

from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.oracles import registry
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, Proposal, Stop
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.listener import Silent
from farfield.service.runner.runner import Runner


class ListLoop(Unlearned):
    """Hands out decisions from a list and keeps what it is told."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.decisions = list(decisions)
        self.told: list[list[Answer]] = []
        self.resumed = 0

    def start(self, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]) -> ListLoop:
        self.told = [list(a) for a in answers]
        self.resumed = len(decisions)
        return self

    def ask(self) -> Decision | Stop:
        if len(self.told) < len(self.decisions):
            return self.decisions[len(self.told)]
        return Stop("the list is empty", True, 0)

    def tell(self, decision: Decision, answers: Sequence[Answer]) -> None:
        assert decision.number == len(self.told)
        self.told.append(list(answers))


def decision(number: int, cells: Sequence[Atoms], kinds: tuple[str, ...] = ("E", "F", "V")) -> Decision:
    proposals = tuple(Proposal(k, a, kinds, "training", "start", (1, 1, 1), {}) for k, a in enumerate(cells))
    return Decision(number, f"decision {number}", proposals, (), 0, {"model": "power"}, {}, {}, b"state")


def cells(seed: int, count: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += np.round(0.05 * rng.normal(size=(4, 3)), 8)
        out.append(atoms)
    return out


class Bench:
    """A campaign file's worth of settings on a fresh database."""

    def __init__(self, folder: Path, client: Cluster) -> None:
        self.folder, self.client = folder, client

    def config(self, **sections: Any) -> CampaignConfig:
        return CampaignConfig.from_mapping({"run": {"folder": str(self.folder)}, **sections}, base=self.folder)

    def database(self) -> Database:
        return open_database(f"sqlite:///{self.folder / 'campaign.db'}", create=True)

    def runner(self, loop: ListLoop, **sections: Any) -> Runner:
        config = self.config(**sections)
        oracle = registry.load(config.oracle.name, config.oracle.parameters)
        return Runner(config, self.database(), self.client, oracle, loop.start)


def attempts(bench: Bench, name: str = "campaign") -> dict[str, int]:
    with bench.database() as database:
        record = Record(database)
        stored = record.campaign(name)
        assert stored is not None
        return {state: share.calls for state, share in record.cost(stored.id).by_state.items()}


class Noted(Silent):
    """What the user was told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.then: Callable[[], object] = lambda: None

    def noted(self, kind: str, message: str) -> None:
        self.said.append((kind, message))
        self.then()
