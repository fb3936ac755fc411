"""Campaigns with a noisy oracle: what is measured, what it costs, how it enters the rounds, and when it ends them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from farfield.oracles.emt import EMTOracle
from farfield.oracles.noise import Noise
from farfield.oracles.packing import pack, unpack
from farfield.service.campaign import growth, noise
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Proposal, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.campaign.proposing import Proposing
from farfield.service.campaign.state import State
from farfield.service.cells import ForceConstantCell
from farfield.service.estimates import Estimate
from farfield.service.estimates.noise import force_constant_step, third_derivative
from farfield.service.proposals.choice import Action

EMT = EMTOracle()
NOISY = OracleInfo("noisy", "none", False)
SIGMA = Noise(0.002, 0.01, 0.005)
Lost = Callable[[Proposal], bool]


def egg_box(atoms: Atoms, size: Noise) -> dict[str, Any]:
    """EMT with noise that hangs on every position and on the order of the atoms, and repeats."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(atoms.positions.tobytes()).digest()[:8], "little"))
    v = EMT.evaluate(atoms, ("E", "F", "V")).values
    n = len(atoms)
    return {
        "E": float(v["E"]) + n * size.energy * rng.normal(),
        "F": v["F"] + size.force * rng.normal(size=(n, 3)),
        "V": v["V"] + n * (size.virial or 0.0) * rng.normal(size=6),
    }


def config(seed: int = 0, **target: Any) -> CampaignConfig:
    return CampaignConfig.from_mapping(
        {
            "campaign": {"seed": seed},
            "host": {"lattice_constant": 3.59},
            "target": {"size": 4, "tol_geo": 0.05, "tol_energy": 0.05, **target},
            "surrogate": {"level": 0},
        }
    )


def answers(decision: Decision, size: Noise, lost: Lost = lambda _: False) -> list[Answer]:
    out = []
    for p in decision.proposals:
        key = f"{decision.number}/{p.ordinal}"
        if lost(p):
            out.append(Answer(p.ordinal, key, failure="crashed"))
            continue
        v = egg_box(p.atoms, size)
        out.append(Answer(p.ordinal, key, v["E"], v["F"], v["V"]))
    return out


Played = tuple[Loop, list[Decision], list[list[Answer]], Stop | None]


def play(size: Noise, rounds: int, info: OracleInfo = NOISY, cfg: CampaignConfig | None = None) -> Played:
    loop, decisions, told = Loop(cfg or config(), info), list[Decision](), list[list[Answer]]()
    while isinstance(asked := loop.ask(), Decision) and len(decisions) < rounds:
        decisions.append(asked)
        told.append(answers(asked, size))
        loop.tell(asked, told[-1])
    return loop, decisions, told, asked if isinstance(asked, Stop) else None


@pytest.fixture(scope="module")
def loud() -> Played:
    return play(Noise(2e-5, 0.003, 0.001), 8)


@pytest.fixture(scope="module")
def quiet() -> Played:
    return play(Noise(2e-6, 2e-4, 1e-4), 8)


@pytest.fixture(scope="module")
def silent() -> Played:
    return play(Noise(0.0, 0.0, 0.0), 8, OracleInfo("emt"))


def opened(seed: int = 0, lost: Lost = lambda _: False, size: Noise = SIGMA) -> Loop:
    loop = Loop(config(seed), NOISY)
    decision = loop.ask()
    assert isinstance(decision, Decision)
    loop.tell(decision, answers(decision, size, lost))
    return loop


def test_three_calls_are_bought_beside_one_that_is_anyway_and_none_of_an_analytic_oracle() -> None:
    decision = Loop(config(), NOISY).ask()
    assert isinstance(decision, Decision)
    bought = [p for p in decision.proposals if p.role == "noise"]
    base = next(p for p in decision.proposals if p.meta.get("name") == noise.BASE)
    assert [(p.term, p.kinds, p.rung) for p in bought] == 3 * [("noise", base.kinds, base.rung)]
    assert "measure its noise" in decision.reason
    for p in bought:
        order = p.meta["order"]
        here = base.atoms.get_all_distances(mic=True)
        assert np.allclose(p.atoms.get_all_distances(mic=True), here[np.ix_(order, order)], atol=1e-7)
        assert not np.allclose(p.atoms.positions, base.atoms.positions)
    analytic = Loop(config(), OracleInfo("emt"))
    asked = analytic.ask()
    assert isinstance(asked, Decision)
    assert len(asked.proposals) == len(decision.proposals) - 3
    assert not [p for p in asked.proposals if p.role == "noise"]
    assert analytic.state.noise == Noise(0.0, 0.0, 0.0)


def test_what_is_measured_is_what_was_put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "farfield.service.campaign.loop.check_oracle", lambda *_: None
    )  # so loud that it is no gradient
    found = [opened(seed).state.noise for seed in range(12)]
    for n in found:
        assert n is not None
        assert 0.5 < n.force / SIGMA.force < 1.5  # 27 degrees of freedom: 3.6 standard errors
    force, energy, virial = (
        np.sqrt(np.mean([getattr(n, kind) ** 2 for n in found])) for kind in ("force", "energy", "virial")
    )
    assert force == pytest.approx(SIGMA.force, rel=0.15)
    assert energy == pytest.approx(SIGMA.energy, rel=0.4)
    assert virial == pytest.approx(SIGMA.virial, rel=0.2)


@pytest.mark.parametrize("count", [1, 2])
def test_a_lost_call_is_done_without(count: int) -> None:
    size = Noise(1e-6, 1e-3, 1e-5)
    loop = opened(lost=lambda p: p.role == "noise" and p.ordinal < 4 + count, size=size)
    assert len(loop.observed.equal) == 3 - count
    assert loop.state.phase == "start"
    assert loop.state.noise is not None
    assert 0.3 < loop.state.noise.force / size.force < 2.0


def test_without_any_the_campaign_ends_and_names_the_noise() -> None:
    stop = opened(lost=lambda p: p.role == "noise").ask()
    assert isinstance(stop, Stop)
    assert stop.exit_code == 1
    assert "no answer for a noise cell" in stop.reason


def test_an_oracle_without_virials_has_no_sigma_of_them() -> None:
    loop = Loop(config(), OracleInfo("noisy", "none", False, frozenset({"E", "F"})))
    decision = loop.ask()
    assert isinstance(decision, Decision)
    given = [Answer(a.ordinal, a.calculation, a.energy, a.forces) for a in answers(decision, Noise(1e-6, 1e-3, 0.0))]
    loop.tell(decision, given)
    assert loop.state.noise is not None
    assert loop.state.noise.virial is None
    assert State.from_bytes(loop.state.to_bytes()).noise == loop.state.noise


def test_a_loud_oracle_ends_the_campaign_with_advice(loud: Played) -> None:
    loop, _, _, stop = loud
    assert stop is not None
    assert (stop.converged, stop.exit_code) == (False, 3)
    assert stop.reason.startswith("noise-limited: ")
    assert "tighten the oracle's convergence threshold" in stop.reason
    e = loop.estimate()
    assert e is not None
    assert e.noise is not None
    assert e.reason == stop.reason
    assert e.core < 2 * e.noise
    assert e.theta * e.core > 0.05
    assert loop.solution is not None


def test_the_core_part_of_a_good_surrogate_is_what_noise_was_said_to_give(loud: Played) -> None:
    """The surrogate is no better than this basis allows, so core is above, yet not far."""
    last = Estimate.from_json(loud[0].state.estimates[-1])
    assert last.noise is not None
    assert last.core / last.noise > 0.7


def test_a_quiet_oracle_changes_nothing_of_the_end(quiet: Played, silent: Played) -> None:
    assert quiet[3] is not None
    assert silent[3] is not None
    assert quiet[3].converged
    assert silent[3].converged
    ours, theirs = (p[0].state.estimates[-1] for p in (quiet, silent))
    assert theirs["noise"] == 0.0
    assert 0.0 < ours["noise"] < ours["core"]
    assert ours["formation_energy"] == pytest.approx(theirs["formation_energy"], abs=0.005)


def test_a_noisy_campaign_resumes_bit_for_bit(loud: Played) -> None:
    loop, decisions, told, stop = loud
    for n in (1, len(decisions) - 1):
        asked = Loop.restore(config(), NOISY, decisions[:n], told[:n]).ask()
        assert isinstance(asked, Decision)
        assert asked.state == decisions[n].state
        assert asked.summary == decisions[n].summary
        for a, b in zip(asked.proposals, decisions[n].proposals, strict=True):
            assert np.array_equal(a.atoms.positions, b.atoms.positions)
    last = Loop.restore(config(), NOISY, decisions, told)
    assert last.ask() == stop
    assert last.state.to_bytes() == loop.state.to_bytes()


def test_states_of_before_the_noise_was_measured_load_and_go_on(loud: Played) -> None:
    _, decisions, told, stop = loud
    assert stop is not None
    assert "noise-limited" in stop.reason
    n = len(decisions) - 1
    header, arrays = unpack(decisions[n].state)
    del header["noise"]
    old = [*decisions[:n], copy.copy(decisions[n])]
    object.__setattr__(old[n], "state", pack(header, arrays))
    loop = Loop.restore(config(), NOISY, old, told[: n + 1])
    assert loop.state.noise is None
    estimate = loop.estimate()
    assert estimate is not None
    assert estimate.noise is None
    asked = loop.ask()
    assert not (isinstance(asked, Stop) and "noise-limited" in asked.reason)  # what was not measured ends nothing
    assert Loop.restore(config(), OracleInfo("emt"), old, told[:n]).state.noise == Noise(0.0, 0.0, 0.0)


def test_force_constants_are_displaced_by_what_suits_the_noise(loud: Played, quiet: Played) -> None:
    for (loop, decisions, _, _), bounds in ((loud, (0.03, 0.05)), (quiet, (0.012, 0.03))):
        first = {p.meta["step"] for p in decisions[1].proposals if p.role == "force constants"}
        assert first == {0.02}  # no surrogate yet
        assert loop.solution is not None
        assert loop.state.noise is not None
        size = (3, 3, 3)
        state = copy.copy(loop.state)
        p = Proposing(loop.problem, NOISY, loop.observed, state, 9, loop.solution)
        decision = p.decision(Action(None, "more", fc_size=size))
        (step,) = {x.meta["step"] for x in decision.proposals if x.role == "force constants"}
        third = third_derivative(loop.solution.surrogate, ForceConstantCell(loop.problem.host, size))
        assert step == force_constant_step(loop.state.noise.force, third)
        assert bounds[0] <= step <= bounds[1]
        observed = copy.deepcopy(loop.observed)
        observed.add(decision, answers(decision, loop.state.noise))
        assert observed.constants[-1].step == step  # that of the rows
        atoms = decision.proposals[0].atoms
        moved = np.abs(atoms.positions - loop.problem.host.atoms(size).positions)
        assert moved.max() == pytest.approx(step, abs=2e-8)


def test_a_call_that_is_asked_again_is_rattled_and_little_where_the_oracle_is_loud(
    loud: Played, quiet: Played, silent: Played
) -> None:
    """By 0.02 Å before there is an estimate; noisy force constants could not take that out again."""
    for (loop, decisions, _, _), expected in ((loud, 0.002), (quiet, 0.002), (silent, 0.02)):
        first = [p.meta["rattle"] for d in decisions for p in d.proposals if p.role == "verification"]
        assert set(first) == {0.0}
        state = copy.copy(loop.state)
        state.unanswered, state.eta_previous = 1, None
        p = Proposing(loop.problem, NOISY, loop.observed, state, 9, loop.solution)
        again = p.decision(Action((3, 3, 3), "again")).proposals[-1].meta["rattle"]
        assert again == pytest.approx(expected, abs=0.001)


def estimate(core: float, noise: float | None, **more: Any) -> Estimate:
    values = dict.fromkeys(Estimate.__dataclass_fields__, 0.0)
    values |= {"decision": 3, "rung": (3, 3, 3), "complete": True, "natoms": 107, "gates": {}, "soft": False}
    return Estimate(
        **{**values, "reason": "", "core": core, "eta_geo": core, "core_after": core, "noise": noise, **more}
    )  # type: ignore[arg-type]


def test_only_a_core_part_of_noise_that_keeps_the_tolerance_away_ends_a_campaign() -> None:
    assert noise.limited(estimate(0.1, 0.06), 0.05)
    assert not noise.limited(estimate(0.1, 0.04), 0.05)  # there is more to learn
    assert not noise.limited(estimate(0.03, 0.06, eta_geo=0.9, fold=0.87), 0.05)  # folding: force constants mend it
    assert not noise.limited(estimate(0.1, 0.06, gates={"relaxed": False}), 0.05)
    assert not noise.limited(estimate(0.1, None), 0.05)
    assert not noise.limited(estimate(0.1, 0.0), 0.05)


def test_noise_is_no_sign_of_a_short_basis() -> None:
    assert growth.count_stalls(1, estimate(0.1, 0.04), 0.05, 0.05) == 2
    assert growth.count_stalls(1, estimate(0.1, 0.06), 0.05, 0.05) == 0
