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


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_calls_that_waited_behind_one_that_kills_its_worker_do_not_count(order: tuple[int, int]) -> None:
    seen = Nodes()
    for k in range(4):  # the worker comes back under another address
        for which in order:
            assert not seen.lost(f"tls://10.0.0.1:{k}", "the killer" if which == 0 else f"c{k}", began=which == 0)
    assert not seen.avoided()
    seen = Nodes()
    for k in range(SUSPECT):  # a host whose workers end before any call begins
        seen.lost(f"tls://10.0.0.1:{k}", f"c{k}", began=False)
    assert seen.avoided() == {"10.0.0.1"}


def test_a_silent_worker_gets_nothing_until_it_speaks() -> None:
    seen = Nodes()
    seen.silent(BAD, [7])
    assert seen.avoided() == {BAD}
    seen.worked(BAD)
    assert not seen.avoided()
    seen.silent(BAD, [7])
    seen.silent(GOOD, [8])
    assert seen.sessions == {7, 8}
    seen.heard([7])  # no call came back, for they were all sent elsewhere: its heartbeat is enough
    assert seen.avoided() == {GOOD}


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
