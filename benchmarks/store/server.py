"""A PostgreSQL server of our own for as long as a context lasts, with its default settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@contextmanager
def server(under: Path, *, keep: bool = False) -> Iterator[str | None]:
    """The server's URL; None where PostgreSQL is not installed. `keep` its data in `under`, for a run to go on."""
    initdb, control = _program("initdb"), _program("pg_ctl")
    if initdb is None or control is None:
        yield None
        return
    user: Any = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "user": user, "cwd": "/"}
    # a socket's path has to be short, and the server's user has to reach both
    with tempfile.TemporaryDirectory(prefix="pg-") as sockets, ExitStack() as stack:
        place = (
            under.absolute() / "pg" if keep else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-")))
        )
        place.mkdir(exist_ok=True)
        for folder in (Path(sockets), place):
            if user is not None:
                shutil.chown(folder, user)
        data = place / "data"
        if not (data / "PG_VERSION").exists():
            subprocess.run([initdb, "-D", data, "-U", "farfield", "-A", "trust", "-E", "UTF8"], check=True, **quiet)
        options = f"-c listen_addresses='' -c unix_socket_directories={sockets}"
        subprocess.run([control, "-D", data, "-w", "-o", options, "start"], check=True, **quiet)
        try:
            yield f"postgresql+psycopg://farfield@/postgres?host={sockets}"
        finally:
            subprocess.run([control, "-D", data, "-m", "fast", "-w", "stop"], check=True, **quiet)
