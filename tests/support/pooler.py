"""A PgBouncer of our own before a PostgreSQL server: what a connection sends goes to any of a few, one transaction at a
time."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from postgres import Server
from required import absent
from tiny import until

__all__ = ["pooled"]

SETTINGS = """
[databases]
postgres = host={server} user=farfield pool_size=3
[pgbouncer]
listen_addr =
listen_port = 5432
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
max_client_conn = 200
server_login_retry = 3
"""


@contextmanager
def pooled(server: Server) -> Iterator[str]:
    """The URL at which `server` is reached through three connections for everybody."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        absent("pgbouncer", "no pgbouncer")
    user: Any = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="farfield-pool-", dir="/tmp"))
    (folder / "pool.ini").write_text(SETTINGS.format(server=server.folder, folder=folder), encoding="utf-8")
    if user is not None:
        shutil.chown(folder, user)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([str(program), "-q", str(folder / "pool.ini")], user=user, stdout=quiet, stderr=quiet)
    try:
        assert until(lambda: _answers(folder / ".s.PGSQL.5432"), 30)
        yield f"postgresql+psycopg://farfield@/postgres?host={folder}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0
