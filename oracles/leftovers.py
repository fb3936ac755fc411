"""What outlives a supervisor that was killed itself: found by the mark in its environment, and ended (decisions B3).

A supervisor's descendants inherit a mark that names it: boot id, pid namespace, pid and start time. Where the first two
are this host's and no such supervisor lives, the process is a leftover. It is killed through a handle that cannot come
to mean another process. One that has cleared its environment is not found.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from farfield.oracles.supervisor import MARK, identity, started

__all__ = ["reap_leftovers"]


def reap_leftovers() -> list[int]:
    """Kill every process of ours on this host whose supervisor is gone; their pids."""
    if not hasattr(os, "pidfd_open") or not Path("/proc/self/environ").exists():
        return []  # not Linux: no supervisor marks anything
    here = identity(os.getpid())[:2]
    killed = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        if not _is_leftover(pid, here):
            continue
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if _is_leftover(pid, here):  # still the same, now that we hold it
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                killed.append(pid)
        except ProcessLookupError:
            continue
        finally:
            os.close(handle)
    return killed


def _is_leftover(pid: int, here: tuple[str, ...]) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or not ours
    prefix = MARK.encode() + b"="
    mark = next((v.removeprefix(prefix) for v in variables if v.startswith(prefix)), None)
    if mark is None:
        return False
    parts = tuple(mark.decode("ascii", "replace").split("/"))
    if len(parts) != 4 or parts[:2] != here or not parts[2].isdigit():
        return False
    return started(int(parts[2])) != parts[3]
