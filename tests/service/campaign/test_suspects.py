"""Labels that lie: held, tested by a nearby cell, withdrawn or believed; the campaign goes on, or ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, Note, OracleInfo, Proposal, Stop
from farfield.service.campaign.inquiry import REFUTED
from farfield.service.campaign.loop import Loop

EMT = EMTOracle()
ANSWER = Answer(0, "x", 0.0, np.zeros((1, 3)), np.zeros(6))
Lie = Callable[[Decision, Proposal, Answer], Answer]


def honest(decision: Decision, p: Proposal, a: Answer) -> Answer:
    return a


def wrong_forces(a: Answer, by: float = 3.0) -> Answer:
    """The answer with a random error of `by` eV/Å in every force component, sum zero."""
    assert a.forces is not None
    error = by * np.random.default_rng(a.ordinal).normal(size=a.forces.shape)
    return Answer(a.ordinal, a.calculation, a.energy, a.forces + error - error.mean(axis=0), a.virial)


def labelled(decision: Decision, p: Proposal, lie: Lie) -> Answer:
    v = EMT.evaluate(p.atoms, ("E", "F", "V")).values
    got: dict[str, Any] = {"energy": float(v["E"]), "forces": v["F"], "virial": v["V"]}
    asked = {"E": "energy", "F": "forces", "V": "virial"}
    a = Answer(p.ordinal, f"{decision.number}/{p.ordinal}", **{asked[k]: got[asked[k]] for k in p.kinds})
    return lie(decision, p, a)


class Played:
    """A campaign on EMT with lies, to its end; each decision also taken by a loop restored from what was there."""

    def __init__(
        self, lie: Lie = honest, more: dict[str, Any] | None = None, rounds: int = 12, *, analytic: bool = True
    ) -> None:
        sections = {
            "target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05},
            "surrogate": {"level": 0},
            **(more or {}),
        }
        self.config = CampaignConfig.from_mapping(sections)
        self.oracle = OracleInfo("emt", analytic=analytic)
        self.loop = Loop(self.config, self.oracle)
        self.decisions: list[Decision] = []
        self.answers: list[list[Answer]] = []
        self.notes: list[Note] = []
        self.stop: Stop | None = None
        for _ in range(rounds):
            asked = self.loop.ask()
            if isinstance(asked, Stop):
                self.stop = asked
                return
            self.decisions.append(asked)
            self.answers.append([labelled(asked, p, lie) for p in asked.proposals])
            self.loop.tell(asked, self.answers[-1])
            self.notes += self.loop.notes()

    def roles(self, number: int) -> set[str]:
        return {p.role for p in self.decisions[number].proposals}

    def fitted(self) -> set[str]:
        o = self.loop.observed
        return {x.calculation for x in (*o.defects, *o.strains)}

    def resumed(self, number: int) -> tuple[Loop, Decision | Stop]:
        """A loop restored when decision `number` had been answered, and what it asks next."""
        loop = Loop.restore(self.config, self.oracle, self.decisions[: number + 1], self.answers[: number + 1])
        return loop, loop.ask()


def first(role: str, change: Callable[[Answer], Answer]) -> Lie:
    """A lie about the first answer in `role` alone."""
    told: list[str] = []

    def lie(decision: Decision, p: Proposal, a: Answer) -> Answer:
        if p.role == role and (not told or told == [a.calculation]):
            told[:] = [a.calculation]
            return change(a)
        return a

    return lie


@pytest.fixture(scope="module")
def sound() -> Played:
    return Played()


@pytest.fixture(scope="module")
def once() -> Played:
    """Wrong forces in the first verification call."""
    return Played(first("verification", wrong_forces))


def test_a_sound_campaign_has_no_suspects(sound: Played) -> None:
    assert sound.stop is not None
    assert sound.stop.converged
    assert sound.notes == []
    assert all("confirmation" not in sound.roles(k) for k in range(len(sound.decisions)))


def test_wrong_forces_are_refuted_by_a_nearby_cell_and_the_tolerance_is_met(once: Played, sound: Played) -> None:
    assert [n.kind for n in once.notes] == ["suspect", "withdrawn"]
    key = "2/0"
    assert {n.calculation for n in once.notes} == {key}
    assert once.roles(3) == {"confirmation"}
    assert "confirm it by a nearby cell" in once.decisions[3].reason
    lied, (test,) = once.decisions[2].proposals[0], once.decisions[3].proposals
    moved = np.linalg.norm(test.atoms.positions - lied.atoms.positions)
    assert 0.005 < moved < 0.05
    assert test.rung == lied.rung
    assert once.roles(4) == {"verification"}
    assert once.decisions[4].proposals[0].rung == lied.rung
    assert not np.array_equal(once.decisions[4].proposals[0].atoms.positions, lied.atoms.positions)
    assert "not confirmed" in once.decisions[4].reason
    assert once.stop is not None
    assert once.stop.converged
    assert key not in once.fitted()
    assert once.loop.state.withdrawn == [key]
    assert all(not k.startswith(key) for k in once.decisions[4].inputs)
    ours, theirs = once.loop.solution, sound.loop.solution
    assert ours is not None
    assert theirs is not None
    target = sound.loop.problem.target
    assert target.norm(ours.u - theirs.u) < 0.05


def test_a_loop_resumed_at_any_decision_goes_on_bit_for_bit(once: Played) -> None:
    for number in range(len(once.decisions)):
        _, asked = once.resumed(number)
        if isinstance(asked, Stop):
            assert asked == once.stop
            continue
        following = once.decisions[number + 1]
        assert asked.state == following.state
        assert (asked.reason, asked.inputs) == (following.reason, following.inputs)
        for ours, theirs in zip(asked.proposals, following.proposals, strict=True):
            assert (ours.role, ours.kinds, ours.meta) == (theirs.role, theirs.kinds, theirs.meta)
            assert np.array_equal(ours.atoms.positions, theirs.atoms.positions)


def stretched(a: Answer) -> Answer:
    assert a.virial is not None
    return Answer(a.ordinal, a.calculation, a.energy, a.forces, 1e3 * a.virial)


@pytest.mark.parametrize(
    ("role", "change"), [("force constants", wrong_forces), ("strain", stretched), ("strain", lambda a: a)]
)
def test_false_cells_of_the_perfect_crystal_are_tested_from_both_sides(
    once: Played, role: str, change: Callable[[Answer], Answer]
) -> None:
    """A decision made by hand buys the crystal's cells again, when there is a surrogate to judge them."""
    loop, _ = once.resumed(4)
    before = loop.observed.constants[0], len(loop.observed.strains)
    given = [p for d in once.decisions[:3] for p in d.proposals if p.role == role]
    bought = Decision(5, "by hand", tuple(given), (), 0, {}, {}, {}, b"")
    lie = first(role, change)
    loop.tell(bought, [labelled(bought, p, lie) for p in given])
    asked = loop.ask()
    assert isinstance(asked, Decision)
    if change(ANSWER) is ANSWER:
        assert loop.notes() == []
        assert len(loop.observed.strains) == before[1] + len(given)
        return
    assert [n.kind for n in loop.notes()] == ["suspect"]
    assert [p.role for p in asked.proposals] == ["confirmation"] * 2
    middle = sum(p.atoms.positions for p in asked.proposals) / 2
    lied = next(p for p in given if p.ordinal == int(loop.notes()[0].calculation.rpartition("/")[2]))
    assert np.allclose(middle, lied.atoms.positions, atol=1e-7)
    loop.tell(asked, [labelled(asked, p, honest) for p in asked.proposals])
    assert [n.kind for n in loop.notes()] == ["withdrawn"]
    assert loop.observed.constants == [before[0]]
    assert len(loop.observed.strains) == before[1] + (len(given) - 1 if role == "strain" else 0)
    assert isinstance(loop.ask(), Decision)


def test_a_sound_label_goes_back_to_its_place(once: Played) -> None:
    loop, _ = once.resumed(3)
    o = loop.observed
    pairs = {
        c: (p, a)
        for d, told in zip(once.decisions, once.answers, strict=True)
        for p, a in zip(d.proposals, told, strict=True)
        for c in [a.calculation]
    }
    for label in (o.defects[0], o.strains[3]):
        before = [*o.defects], [*o.strains], [*o.constants]
        o.hold({label.calculation: pairs[label.calculation]})
        assert label in o.aside
        assert label not in [*o.defects, *o.strains]
        o.release(label.calculation)
        after = o.defects, o.strains, o.constants
        assert all(a is b for x, y in zip(before, after, strict=True) for a, b in zip(x, y, strict=True))
        assert o.aside == []


def wrong_energy(a: Answer) -> Answer:
    return Answer(a.ordinal, a.calculation, (a.energy or 0.0) + 8.0, a.forces, a.virial)


@pytest.mark.parametrize(
    ("role", "change"), [("verification", wrong_energy), ("training", wrong_forces), ("training", wrong_energy)]
)
def test_other_lies_are_refuted_too(role: str, change: Callable[[Answer], Answer]) -> None:
    played = Played(first(role, change), analytic=role != "training")  # one first cell alone cannot be judged
    liar = "2/0" if role == "verification" else min(n.calculation for n in played.notes)
    assert [n.calculation for n in played.notes if n.kind == "withdrawn"] == [liar]
    # the fit of two first cells lays the blame on both, and the test acquits one
    assert len({n.calculation for n in played.notes if n.kind == "confirmed"}) <= 1
    assert played.stop is not None
    assert played.stop.converged
    assert played.loop.state.withdrawn == [liar]
    assert liar not in played.fitted()


def test_an_oracle_whose_answers_keep_being_refuted_ends_as_bad_answer() -> None:
    played = Played(lambda d, p, a: wrong_forces(a) if p.role == "verification" else a)
    assert played.stop is not None
    assert (played.stop.exit_code, played.stop.converged) == (1, False)
    assert played.stop.reason.startswith("bad answer")
    assert "mend" in played.stop.reason
    assert [n.kind for n in played.notes] == ["suspect", "withdrawn"] * REFUTED


def test_a_confirmation_that_fails_leaves_the_label_out() -> None:
    def lie(decision: Decision, p: Proposal, a: Answer) -> Answer:
        if p.role == "confirmation":
            return Answer(a.ordinal, a.calculation, failure="crashed")
        return wrong_forces(a) if (decision.number, p.role) == (2, "verification") else a

    played = Played(lie)
    assert [n.kind for n in played.notes] == ["suspect", "withdrawn"]
    assert "unconfirmed" in played.notes[1].message
    assert "crashed" in played.notes[1].message
    assert played.stop is not None
    assert played.stop.converged


def test_a_label_that_a_person_withdraws_while_it_is_in_doubt_stays_out(once: Played) -> None:
    loop, asked = once.resumed(2)
    loop.withdraw(["2/0"])
    assert isinstance(asked, Decision)
    again = loop.ask()
    assert isinstance(again, Decision)
    assert np.array_equal(again.proposals[0].atoms.positions, asked.proposals[0].atoms.positions)
    loop.tell(asked, once.answers[3])
    assert loop.notes() == []
    assert loop.state.suspects[0]["verdict"] == "withdrawn"
    following = loop.ask()
    assert isinstance(following, Decision)
    assert [p.role for p in following.proposals] == ["verification"]
    assert following.proposals[0].rung == once.decisions[2].proposals[0].rung


def test_a_first_cell_that_is_withdrawn_is_asked_again(once: Played) -> None:
    loop, asked = once.resumed(0)
    assert isinstance(asked, Decision)
    loop.withdraw([f"1/{p.ordinal}" for p in asked.proposals if p.role == "training"])
    loop.tell(asked, once.answers[1])
    again = loop.ask()
    assert isinstance(again, Decision)
    assert [p.role for p in again.proposals] == ["training"]
    loop.tell(again, [labelled(again, p, honest) for p in again.proposals])
    following = loop.ask()
    assert isinstance(following, Decision)
    assert following.proposals[0].role == "verification"


@pytest.mark.parametrize("role", ["force constants"])
def test_withdrawing_all_that_a_first_fit_needs_ends_the_campaign(once: Played, role: str) -> None:
    loop, asked = once.resumed(0)
    assert isinstance(asked, Decision)
    loop.withdraw([f"1/{p.ordinal}" for p in asked.proposals if p.role == role])
    loop.tell(asked, once.answers[1])
    stop = loop.ask()
    assert isinstance(stop, Stop)
    assert (stop.exit_code, "withdrawn" in stop.reason) == (1, True)
