"""A PostgreSQL server of our own for the benchmark, in a temporary folder, on a socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


@contextmanager
def postgres(parent: str | None = None) -> Iterator[tuple[str, psutil.Process]]:
    """Its URL and its first process; durable as it comes (fsync on).

    Raises FileNotFoundError where no server is installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise FileNotFoundError("no PostgreSQL server; install it (Debian: apt-get install postgresql), or --sqlite")
    user: Any = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    with tempfile.TemporaryDirectory(prefix="farfield-pg-", dir=parent) as folder:
        if user is not None:
            shutil.chown(folder, user)
        quiet: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "user": user,
            "cwd": folder,
            "check": True,
        }
        subprocess.run(
            [found[-1] / "initdb", "-D", f"{folder}/data", "-U", "farfield", "-A", "trust", "-E", "UTF8"], **quiet
        )
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c max_connections=100"
        control = [found[-1] / "pg_ctl", "-D", f"{folder}/data", "-w"]
        subprocess.run([*control, "-o", options, "start"], **quiet)
        try:
            first = int(Path(folder, "data", "postmaster.pid").read_text(encoding="utf-8").split()[0])
            yield f"postgresql+psycopg://farfield@/postgres?host={folder}", psutil.Process(first)
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


def cpu(first: psutil.Process) -> float:
    """CPU seconds of the server: its first process, those that it started, and those of them that have ended."""
    own = first.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in first.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return float(total)
