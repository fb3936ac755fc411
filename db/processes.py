"""Which processes of this host live: a pid is an identity only with its start time and boot id (decisions B3)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["process_start"]


def process_start(pid: int) -> float | None:
    """Start time of a process in clock ticks since boot; where there is no /proc, seconds since 1970.

    None when no such process lives; a zombie counts as gone.
    """
    if not Path("/proc/self/stat").exists():
        psutil: Any = import_module("psutil")
        try:
            return float(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else float(fields[19])
