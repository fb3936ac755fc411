"""A PostgreSQL server of our own for the benchmark, in a temporary folder, on a socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def postgres(parent: str | None = None) -> Iterator[str]:
    """Its URL; durable as it comes (fsync on). Raises FileNotFoundError where no server is installed."""
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
            yield f"postgresql+psycopg://farfield@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
