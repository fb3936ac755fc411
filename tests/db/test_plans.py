"""How a page is read: by ids, or by the one index read that is known to be short. SQLite says how it will."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from farfield.db import labels, schema
from farfield.db.engine import open_database
from farfield.db.query import arrays, labelled, pages
from farfield.db.query.compiling import compiled
from farfield.db.query.grammar import parse
from farfield.db.rows import one_of

c = schema.calculation.c


@pytest.fixture
def plan(tmp_path):
    """The steps of a query, by window or by candidates' ids, or of its first index read, as SQLite plans them."""
    with open_database(f"sqlite:///{tmp_path / 'record.db'}", create=True) as database:

        def steps(text: str, *, driven: bool = False, index: bool = False) -> str:
            with database.read() as connection:
                query = compiled(connection, parse(text), text)
                whole = pages._hits(query).where(c.id > 5)
                whole = whole.where(one_of(connection, c.id, [1, 2]) if driven else c.id <= 1000)
                chosen = query.drivers[0] if index else whole
                words = chosen.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
                return "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}"))

        yield steps


@pytest.mark.parametrize("other", ["natoms=54", "formula=W54", "W>=54", "key=01", "role=host", "structure=ab"])
def test_what_is_checked_is_not_looked_up(plan, other: str) -> None:
    """Without statistics SQLite takes an equality on an index for a few rows; here it may be half of them."""
    window, driven = plan(other), plan(f"fmax<0.1 and {other}", driven=True)
    for steps in (window, driven):
        assert "USING INTEGER PRIMARY KEY" in steps.splitlines()[0]
        for index in ("ix_structure_natoms", "ix_structure_formula", "ix_proposal_role", "autoindex_calculation_1"):
            assert index not in steps.split("LIST SUBQUERY")[0], steps
    assert "ix_observation_kind_value" in plan(f"fmax<0.1 and {other}", index=True)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("role=host", "ix_proposal_role_calculation_id"),
        ("size>=3", "ix_proposal_n1_n2_n3_calculation_id"),
        ("n1=3", "ix_proposal_n1_n2_n3_calculation_id"),
        ("natoms=54", "ix_structure_natoms"),
        ("formula=W54", "ix_structure_formula"),
        ("energy<3", "ix_observation_kind_value"),
        ("age<1h", "ix_attempt_ended"),
        ("failed", "ix_attempt_state"),
    ],
)
def test_a_driver_reads_an_index(plan, text: str, index: str) -> None:
    assert f"INDEX {index}" in plan(text, index=True)


@pytest.mark.parametrize(
    ("prepared", "index"),
    [
        (arrays._CELLS, "INTEGER PRIMARY KEY"),
        (labelled._CELLS, "INTEGER PRIMARY KEY"),
        (labels._ANSWERS, "INDEX sqlite_autoindex_observation_1 (calculation_id=?)"),
    ],
)
def test_a_page_reads_what_it_names_and_nothing_else(tmp_path, prepared, index: str) -> None:
    with open_database(f"sqlite:///{tmp_path / 'record.db'}", create=True) as database, database.read() as connection:
        words, names, own = prepared.text("sqlite")
        values = tuple(own.get(name, "[1]") for name in names)
        steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values)]
    assert any(f"SEARCH {table} USING {index}" in s for s in steps for table in ("calculation", "observation")), steps
    assert not any(s.startswith(("SCAN calculation", "SCAN observation", "SCAN blob")) for s in steps)


def test_the_plus_sign_is_sqlite_s_alone() -> None:
    from sqlalchemy.dialects import postgresql, sqlite

    from farfield.db.checked import checked

    column = schema.structure.c.natoms
    statement = select(checked(column) == 3)
    assert "+structure.natoms" in str(statement.compile(dialect=sqlite.dialect()))
    assert "+" not in str(statement.compile(dialect=postgresql.dialect()))
