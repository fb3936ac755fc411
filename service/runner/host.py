"""Who a process is: host name, boot id, pid and start time. Processes are the same only when all four match (B3)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["process_start", "this_host"]


def this_host() -> tuple[str, str]:
    """Host name and boot id; the id changes with every boot, so a pid cannot be taken for one of an earlier life."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        boot = f"{psutil.boot_time():.0f}"
    return socket.gethostname(), boot


def process_start(pid: int | None = None) -> float | None:
    """Start time of a process in clock ticks since boot (seconds since the epoch where there is no /proc).

    None when it does not exist.
    """
    pid = os.getpid() if pid is None else pid
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        import psutil

        try:
            return float(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None
    return float(stat.rpartition(")")[2].split()[19])
