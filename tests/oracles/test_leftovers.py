"""Killed supervisors leave processes behind; whoever comes next ends them, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from ase.build import bulk
from processes import alive, gone, soon, working_in

from farfield.errors import OracleError
from farfield.oracles.leftovers import reap_leftovers
from farfield.oracles.sandbox import Sandbox
from farfield.oracles.supervisor import MARK, identity

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def marked(mark: str) -> subprocess.Popen[bytes]:
    """A process in a session of its own, as if a supervisor with that mark had started it."""
    return subprocess.Popen(SLEEP, env={**os.environ, MARK: mark}, start_new_session=True)


def test_only_what_belongs_to_a_dead_supervisor_of_this_boot_is_ended() -> None:
    boot, space, pid, start = identity(os.getpid())
    kept = {
        "of a supervisor that lives": marked("/".join((boot, space, pid, start))),
        "of another boot": marked("/".join(("other", space, "1", "0"))),
        "of another container": marked("/".join((boot, "pid:[1]", "1", "0"))),
        "of nobody": subprocess.Popen(SLEEP),
        "nonsense": marked("a/b"),
    }
    left = {
        "pid taken by another process since": marked("/".join((boot, space, pid, "1"))),
        "pid free": marked("/".join((boot, space, str(2**22 + 9), start))),
    }
    try:
        reap_leftovers()
        assert {name: p.wait(timeout=30) for name, p in left.items()} == dict.fromkeys(left, -signal.SIGKILL)
        assert {name: p.poll() for name, p in kept.items()} == dict.fromkeys(kept)
    finally:
        for process in [*kept.values(), *left.values()]:
            process.kill()
            process.wait()


def test_a_killed_supervisor_leaves_nothing_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    atoms = bulk("Cu", cubic=True)
    with Sandbox("misbehaving:Fleeing", wall_time=60.0, scratch=tmp_path) as box:

        def strike() -> None:
            assert soon(lambda: bool(fled(tmp_path)))
            assert box.pid
            os.kill(box.pid, signal.SIGKILL)

        thread = Thread(target=strike)
        thread.start()
        with pytest.raises(OracleError) as fault:
            box.evaluate(atoms, ("E",))
        thread.join()
        assert fault.value.failure == "worker lost"
        assert gone(fled(tmp_path))


def fled(folder: Path) -> list[int]:
    """Processes in `folder` that an oracle has started outside its own session."""
    return [p for p in working_in(folder) if alive(p) and b"time.sleep(600)" in _command(p)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""
