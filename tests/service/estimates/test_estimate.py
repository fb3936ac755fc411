from __future__ import annotations

import numpy as np
import pytest

from farfield.service.estimates import Estimate


def estimate(seen: float, hidden: float, complete: bool = True) -> Estimate:
    values = dict.fromkeys(Estimate.__dataclass_fields__, 0.0)
    values |= {"decision": 3, "rung": (3, 3, 3), "complete": complete, "natoms": 107, "gates": {"relaxed": True}}
    values |= {"eta_geo": float(np.hypot(seen, hidden)), "hidden": hidden, "soft": False, "fresh": False, "reason": ""}
    return Estimate(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("complete", [True, False])
def test_the_safety_factor_is_for_what_was_seen(complete: bool) -> None:
    theta = 1.5 if complete else 2.5
    assert estimate(0.01, 0.0, complete).guarded_geo == pytest.approx(theta * 0.01)
    assert estimate(0.0, 0.01, complete).guarded_geo == pytest.approx(0.01)
    assert estimate(0.003, 0.004, complete).guarded_geo == pytest.approx(np.hypot(theta * 0.003, 0.004))


def test_what_is_hidden_can_keep_a_campaign_from_stopping() -> None:
    assert estimate(0.001, 0.0).within(0.005, 0.001)
    assert not estimate(0.001, 0.006).within(0.005, 0.001)


def test_the_record_keeps_it() -> None:
    e = estimate(0.003, 0.004)
    assert Estimate.from_json(e.to_json()) == e
