"""Which host this is, and which of its lives (decisions A8, B3)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["this_host"]


def this_host() -> tuple[str, str]:
    """Host name, and boot id with the pid namespace, as ``boot/namespace``.

    The first changes with every boot, the second from container to container: a pid means something within both.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        boot = f"{psutil.boot_time():.0f}"
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname(), boot
    return socket.gethostname(), f"{boot}/{space}"
