"""The worker is suspected before the task."""

from __future__ import annotations

import pytest

from farfield.service.runner import nodes
from farfield.service.runner.nodes import SUSPECT, Nodes

BAD, GOOD = "tls://10.0.0.1:1", "tls://10.0.0.2:1"


def test_a_host_on_which_different_calls_die_in_a_row_is_avoided_until_one_comes_back() -> None:
    seen = Nodes()
    assert [seen.lost(BAD, f"c{k}") for k in range(SUSPECT)] == [*[False] * (SUSPECT - 1), True]
    assert seen.avoided() == {"10.0.0.1"}
    seen.worked(GOOD)
    assert seen.avoided() == {"10.0.0.1"}
    seen.worked("tls://10.0.0.1:2")
    assert not seen.avoided()


def test_one_call_that_kills_every_worker_makes_no_host_suspect() -> None:
    seen = Nodes()
    for _ in range(2 * SUSPECT):
        seen.lost(BAD, "the same")
        seen.lost(GOOD, "the same")
    assert not seen.avoided()


def test_a_silent_worker_gets_nothing_until_it_speaks() -> None:
    seen = Nodes()
    seen.silent(BAD)
    assert seen.avoided() == {BAD}
    seen.worked(BAD)
    assert not seen.avoided()


def test_a_full_disk_rests_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(nodes.time, "monotonic", lambda: now)
    seen, rests = Nodes(), []
    assert seen.full(BAD)
    for _ in range(8):
        began = now
        while seen.resting():
            now += 1.0
        rests.append(now - began)
        assert not seen.full(BAD)
    assert rests == sorted(rests)
    assert rests[0] < rests[-1] <= nodes.REST_SECONDS[1]
    assert seen.worked(BAD)
    assert not seen.resting()
