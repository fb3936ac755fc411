"""Where a SQLite file may live: on a local disk of this host, in a folder we may write."""

from __future__ import annotations

import os
from pathlib import Path

from farfield.errors import RecordError

__all__ = ["NETWORK", "check_place", "filesystem"]

NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "mmfs",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "wekafs",
    }
)
"""File systems whose shared memory or locks do not hold between hosts: SQLite's WAL is unsafe there (store.md A3)."""


MAGIC = b"SQLite format 3\0"


def filesystem(path: Path, mounts: str | None = None) -> str | None:
    """Type of the file system `path` lies on, from the text of /proc/self/mounts; None where that is not known."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    path = path.resolve()
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].encode("ascii", "backslashreplace").decode("unicode_escape"))
        # a later mount on the same point hides the earlier
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), fields[2])
    return None if best is None else best[1]


def _is_sqlite(path: Path) -> bool:
    """By its first bytes; a live database (one with shared memory) is not opened.

    Closing a handle of our own would drop every lock that SQLite holds on the file for this process.
    """
    if path.with_name(path.name + "-shm").exists():
        return True
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def check_place(path: Path, *, create: bool, readonly: bool, mounts: str | None = None) -> None:
    """Refuse a path that cannot hold (or is not) a SQLite database, in one line. Touches nothing.

    Raises RecordError.
    """
    if (kind := filesystem(path, mounts)) in NETWORK:
        raise RecordError(
            f"{path} lies on a network file system ({kind}), where SQLite loses data; "
            "put database.url on a local disk, or use PostgreSQL"
        )
    if not path.exists():
        if not create:
            raise RecordError(f"there is no database {path}; start the campaign with `farfield run`")
        if not path.parent.is_dir():
            raise RecordError(f"there is no folder {path.parent} for the database; make it, or change database.url")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise RecordError(f"cannot write in {path.parent}; change its permissions, or run.folder and database.url")
        return
    if not path.is_file() or not os.access(path, os.R_OK):
        raise RecordError(f"cannot read {path} as a file; change its permissions or database.url")
    if not _is_sqlite(path):
        raise RecordError(f"{path} is not a SQLite database; move it away, or change database.url")
    if not readonly and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        raise RecordError(f"cannot write to {path} and its folder; change their permissions, or copy the folder")
