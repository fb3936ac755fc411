"""Continuous rounds on real workers: when the next decision is due, and what is taken back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from loops import Unlearned

from farfield.db.engine import open_database
from farfield.oracles import registry
from farfield.service.campaign.config import CampaignConfig, ClusterSection
from farfield.service.campaign.continuous import TAKEN_BACK, Earlier
from farfield.service.campaign.decision import Answer, Decision, Proposal, Stop
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.clusters import connect
from farfield.service.runner.runner import Runner

WORKERS = 2


class Trailing(Unlearned):
    """Hands out decisions; goes on without all answers but the first, and reads the rest when it is told of it."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.decisions = list(decisions)
        self.told: list[dict[int, Answer]] = []
        self.open_places: set[tuple[int, int]] = set()
        self.seen: list[set[tuple[int, int]]] = []
        """What was pending, each time that it was told."""

    def start(self, decisions: Sequence[Decision], answers: Sequence[Sequence[Answer]]) -> Trailing:
        return self

    def ask(self) -> Decision | Stop:
        if len(self.told) < len(self.decisions):
            return self.decisions[len(self.told)]
        return Stop("the list is empty", True, 0)

    def needs(self, decision: Decision) -> set[int]:
        return {0}

    def tell(self, decision: Decision, answers: Sequence[Answer], earlier: Earlier = ()) -> None:
        for d, late in earlier:
            self.told[d.number] |= {a.ordinal: a for a in late}
        self.told.append({a.ordinal: a for a in answers})
        self.open_places = {(n, k) for n, told in enumerate(self.told) for k, a in told.items() if a.pending}
        self.seen.append(set(self.open_places))

    def pending(self, number: int) -> set[int]:
        return {k for n, k in self.open_places if n == number}


def decision(number: int, count: int) -> Decision:
    rng = np.random.default_rng(number)
    cells = []
    for _ in range(count):
        cells.append(bulk("Cu", cubic=True))
        cells[-1].positions += np.round(0.05 * rng.normal(size=(4, 3)), 8)
    proposals = tuple(Proposal(k, a, ("E",), "training", "core", (1, 1, 1), {}) for k, a in enumerate(cells))
    return Decision(number, f"decision {number}", proposals, (), 0, {"model": "power"}, {}, {}, b"state")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with connect(ClusterSection(workers=WORKERS), one_host=True) as cluster:
        yield cluster


def run(folder: Path, cluster: Cluster, loop: Trailing, seconds: float, **decisions: float) -> None:
    """The loop's decisions bought by calls of so many seconds."""
    config = CampaignConfig.from_mapping(
        {
            "oracle": {"name": "slow_emt:SlowEMT", "parameters": {"seconds": seconds}},
            "decisions": {"rounds": "continuous", **decisions},
            "run": {"folder": str(folder)},
        },
        base=folder,
    )
    oracle = registry.load(config.oracle.name, config.oracle.parameters)
    with open_database(config.database_url, create=True) as database:
        assert Runner(config, database, cluster, oracle, loop.start).run().converged


def test_a_decision_is_due_after_a_count_and_what_trails_is_told_later(tmp_path: Path, cluster: Cluster) -> None:
    loop = Trailing([decision(0, 12), decision(1, 1)])
    run(tmp_path, cluster, loop, 0.5, after=3)
    assert 1 <= len(loop.seen[0]) <= 9  # three came of twelve, and perhaps some more at the same moment
    assert (0, 0) not in loop.seen[0]  # that one it could not do without
    assert loop.seen[1] < loop.seen[0]  # what came meanwhile was told with the next
    assert all(a.energy is not None for k, a in loop.told[0].items() if (0, k) not in loop.open_places)


def test_a_decision_is_due_after_an_interval(tmp_path: Path, cluster: Cluster) -> None:
    loop = Trailing([decision(0, 8), decision(1, 1)])
    run(tmp_path, cluster, loop, 1.0, after=100, every=0.01)
    assert loop.seen[0]  # without the interval it would have waited for all
    assert (0, 0) not in loop.seen[0]


def test_what_a_decision_takes_back_is_not_bought_unless_it_has_begun(tmp_path: Path, cluster: Cluster) -> None:
    count = 12
    first = decision(0, count)
    second = replace(decision(1, 1), summary={TAKEN_BACK: [[0, k] for k in range(1, count)]})
    loop = Trailing([first, second])
    run(tmp_path, cluster, loop, 1.5, after=1)
    answered = {k for k, a in loop.told[0].items() if a.energy is not None}
    dropped = {k for k, a in loop.told[0].items() if a.dropped}
    assert 0 in answered
    assert len(dropped) >= count - 4 * WORKERS  # all but what ran or came in the meantime
    assert answered | dropped | loop.pending(0) == set(range(count))
