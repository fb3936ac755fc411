"""Where a SQLite file may live."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from farfield.db.engine import open_database
from farfield.db.places import check_place, filesystem
from farfield.errors import RecordError

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local ext4 rw 0 0
lustre /scratch lustre rw 0 0
tmpfs /my\\040disk tmpfs rw 0 0
old /twice ext4 rw 0 0
server:/x /twice nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/a.db", "ext4"),
        ("/home/me/a.db", "nfs4"),
        ("/home/local/a.db", "ext4"),
        ("/homeless/a.db", "ext4"),
        ("/scratch/a.db", "lustre"),
        ("/my disk/a.db", "tmpfs"),
        ("/twice/a.db", "nfs"),
    ],
)
def test_the_longest_and_latest_mount_counts(path: str, kind: str) -> None:
    assert filesystem(Path(path), MOUNTS) == kind


def test_network_file_systems_are_refused_with_the_mend() -> None:
    with pytest.raises(RecordError, match=r"network file system \(lustre\).*local disk, or use PostgreSQL"):
        check_place(Path("/scratch/a.db"), create=True, readonly=False, mounts=MOUNTS)


def test_this_machine_has_a_file_system(tmp_path: Path) -> None:
    check_place(tmp_path / "a.db", create=True, readonly=False)


def test_opening_again_in_one_process_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """Closing a file handle drops a process's POSIX locks, and another process then takes itself for the last one to
    close the database and removes the log under our feet."""
    path = tmp_path / "live.db"
    with open_database(f"sqlite:///{path}", create=True) as first:
        with first.read() as connection:
            connection.execute(text("SELECT 1"))  # and stays open in the pool
        with open_database(f"sqlite:///{path}"):
            pass
        code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version = 7'); c.close()"
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        assert path.with_name("live.db-wal").exists()
