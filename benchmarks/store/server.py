"""A PostgreSQL server of our own for as long as a context lasts, with its default settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@contextmanager
def server(under: Path) -> Iterator[str | None]:
    """The server's URL; None where PostgreSQL is not installed."""
    initdb, control = _program("initdb"), _program("pg_ctl")
    if initdb is None or control is None:
        yield None
        return
    user: Any = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="pg-", dir=under) as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "user": user}
        subprocess.run([initdb, "-D", data, "-U", "farfield", "-A", "trust", "-E", "UTF8"], check=True, **quiet)
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        subprocess.run([control, "-D", data, "-w", "-o", options, "start"], check=True, **quiet)
        try:
            yield f"postgresql+psycopg://farfield@/postgres?host={folder}"
        finally:
            subprocess.run([control, "-D", data, "-m", "immediate", "stop"], check=True, **quiet)
