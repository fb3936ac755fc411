"""Laws of the tables: migrations make the metadata, the database itself enforces A4."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.engine import Connection

from farfield.db import schema
from farfield.db.engine import Database
from farfield.db.migrations import configuration, upgrade


def test_the_head_of_the_migrations_is_the_revision_we_check() -> None:
    assert ScriptDirectory.from_config(configuration()).get_heads() == [schema.REVISION]


def test_migrations_make_exactly_the_metadata(database: Database) -> None:
    from alembic import command

    with database.engine.connect() as connection, connection.begin() as transaction:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []  # as it is made
        command.downgrade(configuration(connection), "base")
        upgrade(connection)
        assert compare_metadata(context, schema.metadata) == []  # as migrations make it
        made = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
        assert made == [schema.REVISION]
        transaction.rollback()


def test_constraints_are_those_of_the_metadata_to_the_letter() -> None:
    """Alembic compares no check constraints, so the stored DDL is compared."""

    def tables(connection: Connection) -> dict[str, list[str]]:
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
        )
        clauses = {name: " ".join(str(sql).replace(chr(34), "").split()).split(" CONSTRAINT ") for name, sql in rows}
        return {name: sorted(c.strip(" ,)") for c in found) for name, found in clauses.items()}

    ours, theirs = create_engine("sqlite://"), create_engine("sqlite://")
    with ours.connect() as a, theirs.connect() as b:
        upgrade(a)
        schema.metadata.create_all(b)
        assert tables(a) == tables(b)
    ours.dispose()
    theirs.dispose()


def test_downgrade_leaves_nothing(database: Database) -> None:
    from alembic import command

    with database.engine.connect() as connection, connection.begin() as transaction:
        command.downgrade(configuration(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        transaction.rollback()


def test_every_array_is_in_a_blob_and_rows_are_narrow() -> None:
    wide = [
        (t.name, c.name)
        for t in schema.metadata.sorted_tables
        for c in t.columns
        if c.type.python_type is bytes and t is not schema.blob  # whose digest is 32 bytes
    ]
    assert wide == []


def test_json_keeps_order_floats_and_nan(database: Database) -> None:
    value = {"z": 0.1 + 0.2, "a": [1, None, float("inf")], "å": -0.0}
    with database.write() as connection:
        connection.execute(schema.oracle.insert().values(fingerprint_hash="x", fingerprint=value))
        found = connection.scalars(select(schema.oracle.c.fingerprint)).one()
    assert repr(found) == repr(value)
