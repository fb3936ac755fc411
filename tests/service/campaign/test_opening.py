from __future__ import annotations

import numpy as np
import pytest

from farfield.service.campaign.decision import Answer, Proposal
from farfield.service.campaign.observed import Observed
from farfield.service.campaign.opening import check_oracle, equilibrium
from farfield.service.cells import Host
from farfield.service.proposals import oracle_check_cells

CU = Host.named("fcc", ["Cu"], 3.6)


def curve(a0: float, about: float) -> list[tuple[float, float]]:
    a = about * (1 + np.linspace(-0.03, 0.03, 7))
    return [(float(x), float(4 * (np.exp(-2 * 3 * (x / a0 - 1)) - 2 * np.exp(-3 * (x / a0 - 1))))) for x in a]


def test_equilibrium_of_a_morse_curve() -> None:
    a, bracketed = equilibrium(curve(3.61, 3.6))
    assert bracketed
    assert abs(a - 3.61) < 2e-5


def test_minimum_outside_the_points_moves_on() -> None:
    points = curve(3.9, 3.6)
    a, bracketed = equilibrium(points)
    assert not bracketed
    assert a == max(p[0] for p in points)
    a, bracketed = equilibrium(points + curve(3.9, a))
    assert bracketed or a > 3.75


def observed(morse, spoil: str = "", analytic: bool = True) -> Observed:  # type: ignore[no-untyped-def]
    out = Observed()
    cells = oracle_check_cells(CU, ("E", "F", "V"), np.random.default_rng(0), analytic)
    for k, (atoms, kinds, role, term, rung, meta) in enumerate(cells):
        e, f, v = morse(atoms)
        f = -f if spoil == "F" else 1.1 * f if spoil == "F scaled" else f
        v = -v if spoil == "V" else v / 160.2 if spoil == "GPa" else v
        proposal = Proposal(k, atoms, kinds, role, term, rung, meta)
        out.checks[meta["name"]] = (proposal, Answer(k, str(k), e, f, v))
    return out


def test_a_true_oracle_passes(morse) -> None:  # type: ignore[no-untyped-def]
    assert check_oracle(observed(morse), analytic=True) is None


@pytest.mark.parametrize("analytic", [True, False])
@pytest.mark.parametrize(
    ("spoil", "says"), [("F", "forces"), ("F scaled", "forces"), ("V", "virials"), ("GPa", "virials")]
)
def test_a_wrong_oracle_is_caught(morse, analytic: bool, spoil: str, says: str) -> None:  # type: ignore[no-untyped-def]
    fault = check_oracle(observed(morse, spoil, analytic), analytic)
    assert fault is not None
    assert says in fault
