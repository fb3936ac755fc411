"""A column that is compared row by row, and never looked up in an index.

A query is driven by ids or by one index read that is known to be short (`query.pages`). SQLite without statistics takes
any equality on an indexed column for a handful of rows, and would read half a million of them instead.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["checked"]


class _Checked(FunctionElement[Any]):
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(_Checked)
def _plain(element: _Checked, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_Checked, "sqlite")
def _without_index(element: _Checked, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


def checked(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """`column`, which SQLite then finds in no index (a plus sign takes it from the planner)."""
    return _Checked(column)
