"""A database that is away for a while, or has no room: which faults pass, so that a transaction is worth another try.

Only whole transactions are tried again; after a fault nothing of one remains (decisions A7).
"""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError

from farfield.errors import RecordError

__all__ = ["is_away", "is_full", "line_of"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says when a disk, or a user's share of it, is full."""
SQLITE_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
    }
)
POSTGRES_PASSING = ("08", "53", "57P", "40001", "40P01", "25P03")
"""Connection lost, no resources, the server stops or starts, a serialization failure, a deadlock, a transaction that
stood still."""


def is_away(fault: BaseException) -> bool:
    """Whether `fault` says that the database cannot be reached or cannot write now."""
    if isinstance(fault, RecordError) and fault.__cause__ is not None:
        return is_away(fault.__cause__)  # it could not be opened
    if not isinstance(fault, DBAPIError):
        return False
    if fault.connection_invalidated:
        return True
    cause = fault.orig
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in SQLITE_PASSING
    state = getattr(cause, "sqlstate", None)
    if state is None:  # no connection, so no answer from the server
        return type(cause).__name__ in ("OperationalError", "InterfaceError")
    return str(state).startswith(POSTGRES_PASSING)


def is_full(fault: BaseException) -> bool:
    """Whether `fault` says that there is no room on a disk: ours or the database's."""
    if isinstance(fault, OSError):
        return fault.errno in NO_ROOM
    if not isinstance(fault, DBAPIError):
        return False
    code = getattr(fault.orig, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_FULL or getattr(fault.orig, "sqlstate", None) == "53100"


def line_of(fault: Exception) -> str:
    """The first line of a driver's message."""
    if isinstance(fault, OSError):
        return fault.strerror or str(fault)
    lines = str(fault.orig if isinstance(fault, DBAPIError) else fault).strip().splitlines()
    return lines[0] if lines else type(fault).__name__
