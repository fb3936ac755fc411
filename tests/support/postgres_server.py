"""A PostgreSQL server of the tests' own, where initdb and a driver are installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from required import absent


@contextmanager
def postgres_server() -> Iterator[str]:
    """Its URL, on a socket in a temporary folder; the test is skipped where there is none."""
    if (why := _postgres_missing()) is not None:
        absent("postgres", why)
    # the server refuses to run as root
    user: Any = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="farfield-pg-", dir="/tmp") as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        # without this, pg_ctl keeps our pipes open
        quiet: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "user": user,
            "cwd": folder,
        }
        subprocess.run(
            [str(_program("initdb")), "-D", data, "-U", "farfield", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            **quiet,
        )
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
        subprocess.run([str(_program("pg_ctl")), "-D", data, "-w", "-o", options, "start"], check=True, **quiet)
        try:
            yield f"postgresql+psycopg://farfield@/postgres?host={folder}"
        finally:
            subprocess.run([str(_program("pg_ctl")), "-D", data, "-m", "immediate", "stop"], check=True, **quiet)


def _postgres_missing() -> str | None:
    if importlib.util.find_spec("psycopg") is None:
        return "no PostgreSQL driver (pip install 'psycopg[binary]')"
    if _program("initdb") is None:
        return "no initdb"
    return None


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)
