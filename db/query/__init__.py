"""Queries: a small language, and selections that stream (arrays first, `Atoms` second, a table of scalars)."""

from __future__ import annotations

from farfield.db.query.arrays import Block
from farfield.db.query.grammar import QueryError
from farfield.db.query.labelled import Labelled
from farfield.db.query.scalars import Scalars
from farfield.db.query.selecting import Selected, Selection, select, select_labelled

__all__ = ["Block", "Labelled", "QueryError", "Scalars", "Selected", "Selection", "select", "select_labelled"]
