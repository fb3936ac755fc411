"""Continuous rounds: a decision before all of the last has come, and each replays from what it says it read (A1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farfield.errors import ConfigError
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.continuous import SPECULATIVE, open_now, split, taken_back
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.state import State

EMT = EMTOracle()
INFO = OracleInfo("emt")
Place = tuple[int, int]


def config(**decisions: Any) -> CampaignConfig:
    return CampaignConfig.from_mapping(
        {
            "campaign": {"seed": 3},
            "host": {"lattice_constant": 3.59},
            "target": {"size": 5, "tol_geo": 0.02, "tol_energy": 0.01},
            "surrogate": {"level": 0},
            "decisions": {"rounds": "continuous", **decisions},
        }
    )


class Play:
    """A campaign whose calls come late at random, unless the next decision needs them."""

    def __init__(self, cfg: CampaignConfig, seed: int, most: int = 16) -> None:
        self.config, self.loop = cfg, Loop(cfg, INFO)
        self.rng = np.random.default_rng(seed)
        self.decisions: list[Decision] = []
        self.labels: dict[Place, Answer] = {}
        self.waiting: set[Place] = set()
        self.asked: Decision | Stop = self.loop.ask()
        while isinstance(self.asked, Decision) and len(self.decisions) < most:
            decision = self.asked
            self.decisions.append(decision)
            needed = self.loop.needs(decision)
            self.waiting |= {(decision.number, p.ordinal) for p in decision.proposals}
            back = taken_back([decision])
            for place in sorted(self.waiting):
                if place in back and self.rng.random() < 0.5:
                    self.waiting.discard(place)  # it had not begun; others had, and finish
                elif (place[0] == decision.number and place[1] in needed) or self.rng.random() < 0.3:
                    self.waiting.discard(place)
                    self.answer(place)
            self.tell(self.loop, decision, self.loop.open_places, self.labels.keys())
            self.asked = self.loop.ask()

    def answer(self, place: Place) -> None:
        p = self.decisions[place[0]].proposals[place[1]]
        v = EMT.evaluate(p.atoms, p.kinds).values
        key = f"c{place[0]}.{place[1]}"
        self.labels[place] = Answer(p.ordinal, key, v.get("E"), v.get("F"), v.get("V"))

    def answers(self, decision: Decision, there: Any, pending: Any, ordinals: Any = None) -> list[Answer]:
        out = []
        for p in decision.proposals:
            place = decision.number, p.ordinal
            if ordinals is not None and p.ordinal not in ordinals:
                continue
            if place in there:
                out.append(self.labels[place])
            else:
                late = place in pending
                out.append(Answer(p.ordinal, f"c{place[0]}.{place[1]}", pending=late, dropped=not late))
        return out

    def tell(self, loop: Loop, decision: Decision, before: set[Place], there: Any, pending: Any = None) -> None:
        waiting = self.waiting if pending is None else pending
        earlier = [
            (d, self.answers(d, there, waiting, {k for n, k in before if n == d.number}))
            for d in self.decisions[: decision.number]
            if any(n == d.number for n, _ in before)
        ]
        loop.tell(decision, self.answers(decision, there, waiting), earlier)


@pytest.fixture(scope="module", params=[0])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(config(speculation=0.5), request.param)


def same(a: Decision, b: Decision) -> None:
    assert (a.number, a.reason, a.inputs) == (b.number, b.reason, b.inputs)
    for p, q in zip(a.proposals, b.proposals, strict=True):
        assert (p.ordinal, p.kinds, p.role, p.term, p.rung) == (q.ordinal, q.kinds, q.role, q.term, q.rung)
        assert np.abs(p.atoms.positions - q.atoms.positions).max() <= 1e-6
        assert np.abs(p.atoms.cell.array - q.atoms.cell.array).max() <= 1e-6


def test_the_campaign_ends_within_tolerance_though_calls_were_late(play: Play) -> None:
    assert isinstance(play.asked, Stop)
    assert play.asked.converged
    late = {p for d in play.decisions for p in opened(d)}
    assert late, "nothing was ever open: these were barrier rounds"
    assert any(p.term == SPECULATIVE for d in play.decisions for p in d.proposals)


def opened(decision: Decision) -> set[Place]:
    """What was open when `decision` was made, by its stored state."""
    return {(int(n), int(k)) for n, k, _ in State.from_bytes(decision.state).open}


def test_each_decision_replays_from_its_stored_inputs(play: Play) -> None:
    for n in range(1, len(play.decisions)):
        made, last = play.decisions[n], play.decisions[n - 1]
        read = {key.rpartition("/")[0] for key in made.inputs}
        there = {place for place, a in play.labels.items() if a.calculation in read or place[0] < 1}
        history = [play.answers(d, play.labels, set()) for d in play.decisions[: n - 1]]
        loop = Loop.restore(play.config, INFO, play.decisions[:n], history)
        play.tell(loop, last, loop.open_places, there, opened(made))
        again = loop.ask()
        assert isinstance(again, Decision)
        same(again, made)


def test_labels_that_come_late_are_read_later_at_their_place(play: Play) -> None:
    arrived = [
        (place, k)
        for k, d in enumerate(play.decisions[1:], 1)
        for place in opened(play.decisions[k - 1]) - opened(d)
        if place in play.labels
    ]
    for place, k in arrived:
        key = play.labels[place].calculation
        assert not any(i.startswith(f"{key}/") for i in play.decisions[k - 1].inputs)
    cells = play.loop.observed.defects
    assert [(x.decision, x.ordinal) for x in cells] == sorted((x.decision, x.ordinal) for x in cells)


def test_the_first_strained_cells_are_waited_for(play: Play) -> None:
    """The first estimate reads them."""
    asked = [d for d in play.decisions if any(p.role == "strain" for p in d.proposals)]
    own = {(asked[0].number, p.ordinal) for p in asked[0].proposals if p.role == "strain"}
    assert any(p.role == "verification" for p in asked[0].proposals)
    assert all(own.isdisjoint(opened(d)) for d in play.decisions)
    assert own <= play.labels.keys()


def test_speculation_stays_within_its_share(play: Play) -> None:
    def cost(term: bool) -> float:
        ps = [p for d in play.decisions for p in d.proposals if (p.term == SPECULATIVE) is term or not term]
        return sum((max(len(p.atoms), 8) / 8) ** 2.5 for p in ps)

    assert 0 < cost(True) <= 0.5 * cost(False)


def test_without_speculation_the_same_cells_are_bought_as_with_a_barrier() -> None:
    """Where nothing trails, continuous rounds are the sequential loop."""
    plain = Play(replace_rounds(config(), "barrier"), 0, most=4)
    free = Play(config(), 0, most=4)
    for a, b in zip(plain.decisions, free.decisions, strict=True):
        if not opened(b):
            same(a, b)


def replace_rounds(cfg: CampaignConfig, rounds: str) -> CampaignConfig:
    return cfg.model_copy(update={"decisions": cfg.decisions.model_copy(update={"rounds": rounds})})


def test_the_displaced_cells_of_one_size_are_settled_together() -> None:
    loop = Loop(config(), INFO)
    decision = loop.ask()
    assert isinstance(decision, Decision)
    loop.tell(decision, told(decision))
    start = loop.ask()
    assert isinstance(start, Decision)
    own = [p.ordinal for p in start.proposals if p.role == "force constants"]
    late = [replace(a, pending=a.ordinal == own[0]) for a in told(start)]
    kept, answers = split(start, late)
    assert {p.ordinal for p in start.proposals} - {p.ordinal for p in kept.proposals} == set(own)
    assert [a.ordinal for a in answers] == [p.ordinal for p in kept.proposals]
    assert {(n, k) for n, k, _ in open_now(start, late, ())} == {(start.number, k) for k in own}
    assert loop.needs(start) == {p.ordinal for p in start.proposals}  # no verification call: it needs everything


def told(decision: Decision) -> Sequence[Answer]:
    out = []
    for p in decision.proposals:
        v = EMT.evaluate(p.atoms, p.kinds).values
        out.append(Answer(p.ordinal, f"c{decision.number}.{p.ordinal}", v.get("E"), v.get("F"), v.get("V")))
    return out


def test_speculation_without_continuous_rounds_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"decisions\.speculation is for"):
        CampaignConfig.from_mapping({"decisions": {"speculation": 0.1}})
