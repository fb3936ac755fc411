"""Which host this is, and which of its lives (decisions A8, B3)."""

from __future__ import annotations

import socket
from pathlib import Path

__all__ = ["this_host"]


def this_host() -> tuple[str, str]:
    """Host name and boot id; the id changes with every boot, so a pid cannot be taken for one of an earlier life."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        boot = f"{psutil.boot_time():.0f}"
    return socket.gethostname(), boot
