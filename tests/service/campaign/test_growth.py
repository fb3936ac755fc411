"""The basis ladder: when it grows, when it ends the campaign, and that both replay (theory.md section 4, step 6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farfield.errors import CampaignError
from farfield.oracles.emt import EMTOracle
from farfield.service.campaign import growth
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Answer, Decision, OracleInfo, Stop
from farfield.service.campaign.loop import Loop
from farfield.service.estimates import Estimate

EMT = EMTOracle()
INFO = OracleInfo("emt")
TOL = 0.02, 0.01


def config(max_level: int) -> CampaignConfig:
    """A basis of 18 functions for a tolerance that needs 45: it stalls on the first two rungs."""
    return CampaignConfig.from_mapping(
        {
            "host": {"lattice_constant": 3.59},
            "target": {"size": 5, "tol_geo": 0.002, "tol_energy": 0.002},
            "surrogate": {"level": 0, "max_level": max_level},
        }
    )


def answers(decision: Decision) -> list[Answer]:
    out = []
    for p in decision.proposals:
        v: dict[str, Any] = EMT.evaluate(p.atoms, ("E", "F", "V")).values
        out.append(Answer(p.ordinal, f"{decision.number}-{p.ordinal}", v["E"], v["F"], v["V"]))
    return out


Played = tuple[Loop, list[Decision], list[list[Answer]], Stop | None]


def play(cfg: CampaignConfig, rounds: int = 9) -> Played:
    loop, decisions, told = Loop(cfg, INFO), list[Decision](), list[list[Answer]]()
    while isinstance(asked := loop.ask(), Decision) and len(decisions) < rounds:
        decisions.append(asked)
        told.append(answers(asked))
        loop.tell(asked, told[-1])
    return loop, decisions, told, asked if isinstance(asked, Stop) else None


@pytest.fixture(scope="module")
def grown() -> Played:
    return play(config(5))


@pytest.fixture(scope="module")
def limited() -> Played:
    return play(config(0))


def estimate(core: float, after: float | None, **more: Any) -> Estimate:
    values = dict.fromkeys(Estimate.__dataclass_fields__, 0.0)
    values |= {"decision": 3, "rung": (3, 3, 3), "complete": True, "natoms": 107, "gates": {}, "soft": False}
    return Estimate(**{**values, "reason": "", "core": core, "eta_geo": core, "core_after": after, **more})  # type: ignore[arg-type]


def test_only_a_core_part_that_the_refit_does_not_halve_counts() -> None:
    assert growth.count_stalls(0, estimate(0.1, 0.051), *TOL) == 1
    assert growth.count_stalls(1, estimate(0.1, 0.051), *TOL) == 2
    assert growth.count_stalls(1, estimate(0.1, 0.049), *TOL) == 0  # successive: one sound rung begins anew
    assert growth.count_stalls(1, estimate(0.1, 0.0, eta_geo=9.0), *TOL) == 0  # never on eta alone
    assert growth.count_stalls(1, estimate(0.1, None), *TOL) == 0


def test_what_is_no_longer_at_stake_does_not_count() -> None:
    small = estimate(0.4 * TOL[0] / 1.5, 0.4 * TOL[0])
    assert growth.count_stalls(1, small, *TOL) == 0
    assert growth.count_stalls(1, replace(small, energy_core=-TOL[1]), *TOL) == 2  # the energy's core term may be
    assert not growth.exhausted(2, estimate(0.9 * TOL[0] / 1.5, 1.0), *TOL)  # the next rung may meet the tolerance
    assert growth.exhausted(2, estimate(1.1 * TOL[0] / 1.5, 1.0), *TOL)
    assert not growth.exhausted(1, estimate(1.0, 1.0), *TOL)


def test_two_stalled_rungs_grow_the_basis_by_one_level(grown: Played) -> None:
    loop, decisions, _, stop = grown
    estimates = [Estimate.from_json(e) for e in loop.state.estimates]
    k = next(k for k, e in enumerate(estimates) if e.basis_size == 45)
    stalled = estimates[k - 2 : k]
    assert [e.basis_size for e in estimates[:k]] == k * [18]
    assert all(e.core_after is not None and e.core_after > 0.5 * e.core for e in stalled)
    assert loop.state.enlarged == loop.state.level == 1
    assert estimates[k].core < 0.2 * stalled[0].core  # and it was the basis that was short
    reasons = [d.reason for d in decisions if "basis grown" in d.reason]
    assert len(reasons) == 1
    assert all("{}x{}x{}".format(*e.rung) in reasons[0] for e in stalled)
    assert reasons[0].endswith("basis grown to level 1, 45 functions")
    levels = [d.summary["basis_level"] for d in decisions[2:]]
    assert levels == sorted(levels)
    assert set(levels) == {0, 1}
    assert [bool(d.summary.get("grown")) for d in decisions[2:]].count(True) == 1
    assert stop is not None


def test_a_campaign_resumed_after_the_basis_grew_replays_bit_for_bit(grown: Played) -> None:
    loop, decisions, told, stop = grown
    first = next(d.number for d in decisions if "basis grown" in d.reason)
    for n in range(first - 1, len(decisions)):
        resumed = Loop.restore(config(5), INFO, decisions[:n], told[:n])
        asked = resumed.ask()
        assert isinstance(asked, Decision)
        assert asked.state == decisions[n].state
        for a, b in zip(asked.proposals, decisions[n].proposals, strict=True):
            assert np.array_equal(a.atoms.positions, b.atoms.positions)
    last = Loop.restore(config(5), INFO, decisions, told)
    assert last.ask() == stop
    assert last.state.to_bytes() == loop.state.to_bytes()


def test_the_top_of_the_ladder_ends_the_campaign_with_advice(limited: Played) -> None:
    loop, _, _, stop = limited
    assert stop is not None
    assert (stop.converged, stop.exit_code) == (False, 3)
    assert stop.reason.startswith("basis-limited: ")
    assert "raise surrogate.max_level above 0" in stop.reason
    e = loop.estimate()
    assert e is not None
    assert e.reason == stop.reason
    assert "{}x{}x{} (".format(*e.rung) in stop.reason
    assert loop.solution is not None  # the surrogate that was estimated, not one fitted since
    assert np.isclose(loop.solution.formation_energy, e.formation_energy_raw, atol=1e-9)


def test_a_larger_basis_goes_on_where_the_campaign_ended(limited: Played, grown: Played) -> None:
    """What was bought stays; a raised max_level is no change of anything that was decided."""
    _, decisions, told, _ = limited
    assert config(5).changed_from(config(0)) == []
    resumed = Loop.restore(config(5), INFO, decisions, told)
    asked = resumed.ask()
    assert isinstance(asked, Decision)
    assert asked.state == grown[1][len(decisions)].state


def test_a_basis_of_the_whole_ladder_is_not_told_to_grow() -> None:
    from farfield.service.campaign.ending import basis_limited

    stop = basis_limited("seen", 6, 351, 5.3, 6)
    assert "max_level" not in stop.reason
    assert "surrogate.cutoff (now 5.30 Å)" in stop.reason


def test_a_withdrawn_label_is_out_of_the_loop_for_good(grown: Played) -> None:
    """The refits of a loop without it, in the run and after a resume; its estimate counts no more."""
    _, decisions, told, _ = grown
    bad = decisions[3].proposals[0]
    assert (bad.role, bad.rung) == ("verification", (2, 3, 3))
    key = told[3][0].calculation
    loop = Loop.restore(config(5), INFO, decisions[:5], told[:4])
    assert len(loop.state.estimates) == 2
    assert loop.withdraw([key]) == 1
    assert [e["rung"] for e in loop.state.estimates] == [[2, 2, 3]]
    loop.tell(decisions[4], told[4])
    assert key not in {d.calculation for d in loop.observed.defects}
    asked = loop.ask()
    assert isinstance(asked, Decision)
    assert not any(k.startswith(f"{key}/") for k in asked.inputs)
    assert asked.state != decisions[5].state
    more = [*decisions[:5], asked], [*told[:5], answers(asked)]
    loop.tell(asked, more[1][-1])
    resumed = Loop.restore(config(5), INFO, *more)
    assert resumed.state.to_bytes() == loop.state.to_bytes()
    assert resumed.observed.withdrawn == {key}


def test_a_withdrawn_verification_call_gives_no_estimate(grown: Played) -> None:
    _, decisions, told, _ = grown
    loop = Loop.restore(config(5), INFO, decisions[:4], told[:3])
    loop.withdraw([told[3][0].calculation])
    loop.tell(decisions[3], told[3])
    assert loop.estimate() is None
    asked = loop.ask()
    assert isinstance(asked, Decision)
    assert asked.proposals[-1].rung == decisions[3].proposals[-1].rung  # again, on the data that are left
    assert not np.array_equal(asked.proposals[-1].atoms.positions, decisions[3].proposals[-1].atoms.positions)


def test_what_a_fit_needs_cannot_be_withdrawn(grown: Played, limited: Played) -> None:
    _, decisions, told, _ = grown
    loop = Loop.restore(config(5), INFO, decisions[:4], told[:3])
    constants = [
        a.calculation for p, a in zip(decisions[1].proposals, told[1], strict=True) if p.role == "force constants"
    ]
    with pytest.raises(CampaignError, match="would be left to fit"):
        loop.withdraw(constants)
    with pytest.raises(CampaignError, match="would be left to fit"):
        loop.withdraw({d.calculation for d in loop.observed.defects})
    assert loop.observed.withdrawn == set()
    assert loop.withdraw(["unknown"]) == 0
    with pytest.raises(CampaignError, match="has ended"):
        limited[0].withdraw(["anything"])
