"""Did the call end its worker, or the job end both: who still listens tells."""

from __future__ import annotations

import socket
import time

import pytest

from farfield.service.runner import fates
from farfield.service.runner.fates import Fates


def test_a_call_is_held_back_until_it_is_known_what_ended_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.monotonic()
    monkeypatch.setattr(fates.time, "monotonic", lambda: clock)
    with socket.create_server(("127.0.0.1", 0)) as nanny, socket.create_server(("127.0.0.1", 0)) as leaving:
        lives, goes = (f"tls://127.0.0.1:{s.getsockname()[1]}" for s in (nanny, leaving))
        open_ones = Fates()
        open_ones.note(1, "key 1", "KilledWorker", lives)
        open_ones.note(2, "key 2", "KilledWorker", goes)
        assert open_ones.held == {"key 1", "key 2"}
        assert open_ones.told() == []
        leaving.close()
        clock += fates.WAIT_SECONDS
        told = open_ones.told()
        assert [(f.attempt, f.message, alive) for f, alive in told] == [
            (1, "KilledWorker", True),
            (2, "KilledWorker", False),
        ]
    assert open_ones.held == {"key 1", "key 2"}  # until it is written down
    for fate, _ in told:
        open_ones.settled(fate)
    assert open_ones.held == frozenset()
    assert open_ones.told() == []
