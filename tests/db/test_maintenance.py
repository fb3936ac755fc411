"""Check finds every kind of damage and nothing else; a copy is the same database; an upgrade loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from alembic.script import ScriptDirectory
from ase.build import bulk
from sqlalchemy import MetaData, Table, create_engine, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from farfield.db import schema
from farfield.db.bulk import Frame, store_labelled
from farfield.db.datasets import freeze, members, verify
from farfield.db.engine import open_database, parse_url, plain_engine
from farfield.db.identity import calculation_key, structure_bytes, structure_key
from farfield.db.maintenance import check, copy, info, upgrade
from farfield.db.maintenance.copying import table_hash
from farfield.db.migrations import configuration
from farfield.db.migrations import upgrade as migrate
from farfield.db.query import select as select_query
from farfield.db.record import Record
from farfield.db.sources import open_source
from farfield.errors import RecordError, SchemaError
from farfield.oracles.packing import pack


@pytest.fixture
def full(record, claims, session, campaign, decide, answer):
    """Rows in every table: a decision, answers, a failure, an FC column, an import, a dataset, estimate and model."""
    decided = decide(0, 3)
    keys = record.store_decision(campaign, decided)
    for key in keys[:2]:
        attempt = claims.new_attempt(key, campaign, ("E", "F", "V"))
        claims.claim(attempt, session)
        claims.finish(attempt, session, answer("EFV", energy_zero=-3.8), 1.0, {"mesh": [1, 1, 1]})
    failed = claims.new_attempt(keys[2], campaign, ("E",))
    claims.claim(failed, session)
    claims.fail(failed, "crashed", "signal 11 — åäö", 2.0)
    fingerprint = record.campaign("first").fingerprint_hash
    record.store_force_constants(
        bulk("Cu", cubic=True), fingerprint, 0, (1, 0, 0), 0.01, np.ones((4, 3)), [(keys[0], 0.01, np.eye(3))]
    )
    record.store_estimate(campaign, 0, {"eta": 0.1 + 0.2, "nan": float("nan")})
    record.store_model(campaign, 0, b"a model")
    record.event(campaign, "note", "said", {"x": 1})
    source = open_source(record.database, "theirs.xyz", "0" * 64, {"adapter": "emt", "version": 1})
    rng = np.random.default_rng(99)
    cells = [bulk("Cu", cubic=True) for _ in range(5)]
    for cell in cells:
        cell.rattle(0.1, rng=rng)
    list(
        store_labelled(record.database, source, [Frame(c, 1.0, rng.normal(size=(4, 3)), None, "theirs") for c in cells])
    )
    freeze(record.database, "mine")
    with record.database.write() as connection:
        connection.execute(
            insert(schema.rollup).values(campaign_id=campaign, upto=1, content={"calls": 1}, created=1.5)
        )
    return record


def hashes(database) -> dict[str, tuple[int, str]]:
    with database.read() as connection:
        return {t.name: table_hash(connection, t) for t in schema.metadata.sorted_tables}


# -- check ---------------------------------------------------------------------------------------------------------


def test_a_sound_database_is_sound(full) -> None:
    found = check(full.database)
    assert found.faults == []
    assert found.count == 0
    assert min(found.rows.values()) > 0


def damages():
    b, s, c, o, a, k = (
        t.c
        for t in (schema.blob, schema.structure, schema.calculation, schema.observation, schema.attempt, schema.oracle)
    )
    first_f = select(func.min(o.id)).where(o.kind == "F").scalar_subquery()
    return {
        "a blob": (update(schema.blob).where(b.id == select(s.blob_id).limit(1).scalar_subquery())
                   .values(digest=bytes(32)), "blob"),
        "a value": (update(schema.observation).where(o.id == first_f).values(value=99.0), "observation"),
        "a formula": (update(schema.structure).where(s.id == 1).values(formula="Cu5"), "structure"),
        "a number of atoms": (update(schema.structure).where(s.id == 1).values(natoms=5), "structure"),
        "a structure's key": (update(schema.structure).where(s.id == 1).values(key="f" * 64), "structure"),
        "a calculation's key": (update(schema.calculation).where(c.id == 1).values(key="f" * 64), "calculation"),
        "a fingerprint": (update(schema.oracle).where(k.id == 1).values(fingerprint={"adapter": "x"}), "oracle"),
        "a state": (update(schema.attempt).where(a.id == 1).values(state="superseded"), "attempt"),
        "a lost label": (delete(schema.observation).where(o.attempt_id == 1), "attempt"),
        "another's answer": (update(schema.observation).where(o.id == first_f).values(attempt_id=2), "observation"),
        "a lost answer": (update(schema.attempt).where(a.id == 1).values(blob_id=None), "attempt"),
        "a member": (update(schema.dataset_member).where(schema.dataset_member.c.ordinal == 0)
                     .values(digest="f" * 64), "dataset"),
    }  # fmt: skip


@pytest.mark.parametrize("what", list(damages()))
def test_damage_is_found_where_it_is(full, what: str) -> None:
    statement, where = damages()[what]
    with full.database.write() as connection:
        connection.execute(statement)
    found = check(full.database)
    assert any(fault.startswith(where) for fault in found.faults), found.faults
    assert found.count < 8


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_bytes_that_a_disk_changed_are_found(full) -> None:
    blob = schema.blob.c
    with full.database.write() as connection:
        row = connection.scalars(select(schema.attempt.c.blob_id).where(schema.attempt.c.id == 1)).one()
        data = bytearray(connection.scalars(select(blob.data).where(blob.id == row)).one())
        data[-20] ^= 1
        connection.execute(update(schema.blob).where(blob.id == row).values(data=bytes(data)))
    assert [f for f in check(full.database).faults if f.startswith(f"blob {row}:")]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_row_without_its_parent_is_found(full) -> None:
    path = full.database.path
    full.database.close()
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM oracle")
    raw.close()
    with open_database(f"sqlite:///{path}") as again:
        assert any("refers to is not there" in fault for fault in check(again).faults)


def test_orphans_are_counted_and_no_fault(full) -> None:
    before = check(full.database)
    with full.database.write() as connection:
        connection.execute(insert(schema.blob).values(digest=hashlib.sha256(b"abc").digest(), data=b"abc"))
    after = check(full.database)
    assert (after.orphans - before.orphans, after.orphan_bytes - before.orphan_bytes, after.count) == (1, 3, 0)


def test_info_counts(full) -> None:
    found = info(full.database)
    assert found["rows"]["calculation"] == len(list(select_query(full.database, labelled=False).scalars()))
    assert found["datasets"] == {"mine": 7}
    assert (found["campaigns"], found["revision"]) == ({"first": "created"}, schema.REVISION)
    assert found["bytes"] > 0
    assert json.dumps(found)


# -- copy ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(postgres, tmp_path: Path):
    """A fresh PostgreSQL database and a fresh SQLite file; their URLs."""
    name = f"copy_{os.getpid()}_{time.monotonic_ns()}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres.replace("/postgres?", f"/{name}?"), f"sqlite:///{tmp_path / 'copy.db'}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


def test_there_and_back_again(full, claims, elsewhere) -> None:
    claims.close_session(1)
    before = hashes(full.database)
    server, file = elsewhere
    done = copy(full.database, server)
    assert {n: (done.rows[n], done.hashes[n]) for n in before} == before
    with open_database(server) as there:
        assert hashes(there) == before
        copy(there, file)
        # ids go on where they were
        record = Record(there)
        new = record.create_campaign("new", {}, {"adapter": "other"})
        assert new > record.campaign("first").id
    with open_database(file) as back:
        assert hashes(back) == before
        assert check(back).faults == []
        assert verify(back, "mine") == []
    with pytest.raises(RecordError, match="holds a database already"):
        copy(full.database, file)


def test_a_copy_that_was_interrupted_goes_on(full, elsewhere) -> None:
    _, file = elsewhere
    stop = [t.name for t in schema.metadata.sorted_tables if t.name in ("structure", "observation", "dataset_member")]
    for name in stop:

        def heard(table: str, rows: int, name: str = name) -> None:
            if table == name:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            copy(full.database, file, heard)
        with pytest.raises(SchemaError, match=r"revision none|no farfield tables"):
            open_database(file)
    done = copy(full.database, file)
    assert done.resumed > 0
    with open_database(file) as back:
        assert hashes(back) == hashes(full.database)


def test_an_unfinished_copy_of_another_database_is_refused(full, elsewhere, tmp_path: Path) -> None:
    _, file = elsewhere

    def heard(table: str, rows: int) -> None:
        if table == "calculation":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(full.database, file, heard)
    with open_database(f"sqlite:///{tmp_path / 'other.db'}", create=True) as other:
        Record(other).create_campaign("x", {}, {"adapter": "y"})
        with pytest.raises(RecordError, match="unfinished copy of another"):
            copy(other, file)


def test_a_copy_that_differs_is_no_copy(full, elsewhere) -> None:
    _, file = elsewhere

    def heard(table: str, rows: int) -> None:
        if table == "observation":
            engine = plain_engine(parse_url(file))
            with engine.begin() as connection:
                connection.execute(update(schema.structure).where(schema.structure.c.id == 1).values(natoms=99))
            engine.dispose()

    with pytest.raises(RecordError, match=r"copy of structure .* differs"):
        copy(full.database, file, heard)
    with pytest.raises(SchemaError):
        open_database(file)


def test_a_running_campaign_is_not_copied(full, campaign, session, elsewhere) -> None:
    full.lease_campaign(campaign, session)
    with pytest.raises(RecordError, match="stop it first"):
        copy(full.database, elsewhere[1])


# -- upgrade -------------------------------------------------------------------------------------------------------


def first_revision(url: str) -> dict[str, object]:
    """A database of revision 0001 with a row or more in every table, as that farfield wrote them; what was written."""
    engine = plain_engine(parse_url(url))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        migrate(connection, "0001")
        connection.commit()
    meta = MetaData()
    meta.reflect(engine)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    structure = structure_bytes(atoms)
    fingerprint = json.dumps({"adapter": "emt"}, separators=(",", ":"))
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()
    key = structure_key(structure)
    forces = np.random.default_rng(0).normal(size=(4, 3))
    values = {"E": np.array(-3.5), "F": forces, "V": np.arange(6.0)}
    result = pack({"format": "farfield result 1", "energy_zero": -3.6}, values)
    column = pack({"format": "farfield force constants 1", "site": 0, "direction": [1.0, 0.0, 0.0], "step": 0.01},
                  {"column": np.ones((4, 3))})  # fmt: skip
    blobs = [structure, result, column, pack({"inputs": []}), b"state", b"model"]
    rows: dict[str, list[dict[str, object]]] = {
        "blob": [{"id": i, "data": data} for i, data in enumerate(blobs, 1)],
        "oracle": [{"id": 1, "fingerprint_hash": digest, "fingerprint": fingerprint}],
        "worker_session": [{"id": 1, "host": "h", "boot_id": "b", "pid": 1, "start_time": 1.0,
                            "opened": 1.0, "beat": 1.0}],
        "campaign": [{"id": 1, "name": "old", "state": "converged", "config": "{}", "oracle_id": 1,
                      "stop_requested": False, "created": 1.0}],
        "structure": [{"id": 1, "key": key, "natoms": 4, "formula": "Cu4", "blob_id": 1}],
        "calculation": [{"id": 1, "key": calculation_key(key, digest), "structure_id": 1, "oracle_id": 1}],
        "decision": [{"id": 1, "campaign_id": 1, "number": 0, "reason": "r", "seed": 1, "cost_model": "{}",
                      "weights": "{}", "summary": "{}", "inputs_blob_id": 4, "state_blob_id": 5, "created": 1.0}],
        "proposal": [{"id": 1, "decision_id": 1, "ordinal": 0, "calculation_id": 1, "kinds": "E,F,V",
                      "role": "training",
                      "term": "core", "n1": 1, "n2": 1, "n3": 1, "meta": "{}"}],
        "attempt": [{"id": 1, "calculation_id": 1, "number": 1, "campaign_id": 1, "proposal_id": 1, "kinds": "E,F,V",
                     "state": "finished", "cancel": False, "session_id": 1, "created": 1.0, "ended": 2.0,
                     "core_seconds": 0.5, "blob_id": 2}],
        "observation": [
            {"id": n, "calculation_id": 1, "kind": kind, "detail": "", "attempt_id": 1, "value": value,
             "energy_zero": zero, "blob_id": 2, "accepted": 2.0}
            for n, (kind, value, zero) in enumerate(
                (("E", -3.5, -3.6), ("F", float(np.linalg.norm(forces, axis=1).max()), None), ("V", 1.0, None)), 1)
        ] + [{"id": 4, "calculation_id": 1, "kind": "FC", "detail": "0 1.0 0.0 0.0 0.01", "attempt_id": None,
              "value": 1.0, "energy_zero": None, "blob_id": 3, "accepted": 2.0}],
        "fc_link": [{"observation_id": 4, "ordinal": 0, "calculation_id": 1, "step": 0.01,
                     "rotation": json.dumps(np.eye(3).tolist())}],
        "estimate": [{"decision_id": 1, "content": "{}", "created": 1.0}],
        "model": [{"decision_id": 1, "blob_id": 6, "created": 1.0}],
        "event": [{"id": 1, "campaign_id": 1, "kind": "k", "message": "m", "data": "{}", "created": 1.0}],
    }  # fmt: skip
    assert set(rows) == set(meta.tables) - {"alembic_version"}
    with engine.begin() as connection:
        for name in rows:
            connection.execute(insert(Table(name, meta)), rows[name])
        if engine.dialect.name == "postgresql":
            for name in rows:
                if "id" in meta.tables[name].c:
                    connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), 10)"))
    engine.dispose()
    return {"forces": forces, "atoms": atoms, "rows": {name: len(r) for name, r in rows.items()}}


@pytest.mark.parametrize("start", ["0001", "0002", "0003", "0004"])
@pytest.mark.parametrize("place", [0, 1])
def test_every_earlier_revision_is_upgraded_with_its_data(elsewhere, tmp_path: Path, place: int, start: str) -> None:
    url = elsewhere[place]
    written = first_revision(url)
    engine = plain_engine(parse_url(url))
    with engine.begin() as connection:
        migrate(connection, start)
    engine.dispose()
    with pytest.raises(SchemaError, match="farfield db upgrade"):
        open_database(url)
    if place == 0:
        with pytest.raises(RecordError, match="pg_dump"):
            upgrade(url)
    done = upgrade(url, without_backup=place == 0)
    assert (done.before, done.after) == (start, schema.REVISION)
    with open_database(url) as database:
        assert check(database).faults == []
        (row,) = select_query(database)
        assert row.labels.forces.tobytes() == written["forces"].tobytes()
        assert (row.labels.energy, row.labels.energy_zero) == (-3.5, -3.6)
        assert row.structure_atoms().positions.tobytes() == written["atoms"].positions.tobytes()
        (block,) = select_query(database).arrays()
        assert block.forces.tobytes() == written["forces"].tobytes()
        assert block.pbc.all()
        record = Record(database)
        assert record.decisions(1)[0].reason == "r"
        assert record.model(1) == b"model"
        (column,) = record.force_constants(row.structure_atoms(), record.campaign("old").fingerprint_hash)
        assert column.column.sum() == 12
        assert {n: c for n, c in info(database)["rows"].items() if n in written["rows"]} == written["rows"]
        # and the new schema works
        freeze(database, "mine")
        assert len(list(members(database, "mine"))) == 1
        new = record.create_campaign("new", {}, {"adapter": "emt"})
        assert new > 1
    assert upgrade(url).backup is None
    if place == 1:
        assert done.backup is not None
        with sqlite3.connect(done.backup) as raw:
            assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == (start,)
        raw.close()


def test_every_revision_but_the_last_is_where_an_upgrade_is_tested_from() -> None:
    known = [r.revision for r in ScriptDirectory.from_config(configuration()).walk_revisions()]
    assert sorted(known) == ["0001", "0002", "0003", "0004", schema.REVISION]


def test_an_upgraded_schema_is_a_fresh_one(elsewhere, tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    for url in elsewhere:
        first_revision(url)
        upgrade(url, without_backup=True)
        engine = plain_engine(parse_url(url))
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        engine.dispose()


def test_an_upgrade_that_is_killed_leaves_the_old_database(elsewhere, tmp_path: Path) -> None:
    url = elsewhere[1]
    first_revision(url)
    path = Path(url.removeprefix("sqlite:///"))
    program = (
        "import os, signal, sys\n"
        "from farfield.db.migrations.versions import revision_0002 as r\n"
        "from farfield.db.maintenance import upgrading\n"
        "migrate = upgrading.migrate\n"
        "def die(connection):\n"
        "    migrate(connection)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "upgrading.migrate = die\n"
        f"upgrading.upgrade({url!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        assert "dataset" not in {name for (name,) in raw.execute("SELECT name FROM sqlite_master")}
    raw.close()
    for backup in path.parent.glob("*before*"):
        backup.unlink()
    assert upgrade(url).after == schema.REVISION


def test_refusals(elsewhere, tmp_path: Path) -> None:
    url = elsewhere[1]
    with pytest.raises(RecordError, match="no database"):
        upgrade(url)
    first_revision(url)
    path = Path(url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE worker_session SET beat = (julianday('now') - 2440587.5) * 86400.0")
    raw.close()
    with pytest.raises(RecordError, match="stop the campaigns first"):
        upgrade(url)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE worker_session SET beat = 1.0")
    raw.close()
    shutil.copy(path, path.with_name(f"copy.before-{schema.REVISION}-of-0001.db"))
    with pytest.raises(RecordError, match="is there already"):
        upgrade(url)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    for opening in (upgrade, open_database):
        with pytest.raises(SchemaError, match="--upgrade farfield"):
            opening(url)


def test_the_database_itself_refuses_damage(full) -> None:
    """What `check` would find is mostly not to be had: references and states are constraints."""
    for statement in (
        delete(schema.oracle),
        update(schema.attempt).values(state="failed", failure=None),
        insert(schema.observation).values(
            calculation_id=1, kind="E", detail="", attempt_id=1, value=0.0, blob_id=1, accepted=0.0
        ),
    ):
        with pytest.raises(DBAPIError), full.database.write() as connection:
            connection.execute(statement)
