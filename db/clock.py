"""The database's clock, in seconds since 1970. Leases live by it alone, never by a host's (decisions A5)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["now"]


class now(FunctionElement[float]):  # noqa: N801  a SQL function, named like one
    """SQL: the time of this statement, seconds since 1970 as a float."""

    type = Float(53)
    name = "now"
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # unixepoch(.., 'subsec') is NULL before SQLite 3.42
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"
