"""A PostgreSQL server of our own, on a socket in a temporary folder, which tests may stop and start."""

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

__all__ = ["Server", "missing", "served"]

OPTIONS = "-c listen_addresses='' -c fsync=off -c max_connections=60"


def missing() -> str | None:
    """Why no server can be started here."""
    if importlib.util.find_spec("psycopg") is None:
        return "no PostgreSQL driver (pip install 'psycopg[binary]')"
    if _program("initdb") is None:
        return "no initdb"
    return None


@contextmanager
def served() -> Iterator[Server]:
    """A server with an empty database; the test is skipped where there can be none."""
    if (why := missing()) is not None:
        absent("postgres", why)
    server = Server()
    try:
        yield server
    finally:
        server.close()


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


class Server:
    """Started when made. `url` is that of its one database; `close` ends it and removes its files."""

    def __init__(self) -> None:
        # the server refuses to run as root
        user: Any = "postgres" if os.geteuid() == 0 else None
        self.folder = tempfile.mkdtemp(prefix="farfield-pg-", dir="/tmp")
        if user is not None:
            shutil.chown(self.folder, user)
        self.url = f"postgresql+psycopg://farfield@/postgres?host={self.folder}"
        # without this, pg_ctl keeps our pipes open
        self._quiet: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "user": user,
            "cwd": self.folder,
            "check": True,
        }
        data = f"{self.folder}/data"
        subprocess.run(
            [str(_program("initdb")), "-D", data, "-U", "farfield", "-A", "trust", "-E", "UTF8", "--no-sync"],
            **self._quiet,
        )
        self.start()

    def start(self) -> None:
        """Start it again."""
        self._control("-w", "-o", f"{OPTIONS} -c unix_socket_directories={self.folder}", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends connections, "immediate" is as if it had crashed."""
        self._control("-m", mode, "-w", "stop")

    def restart(self, mode: str = "fast") -> None:
        """Stop and start."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """End it for good."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *arguments: str) -> None:
        subprocess.run([str(_program("pg_ctl")), "-D", f"{self.folder}/data", "-t", "300", *arguments], **self._quiet)
