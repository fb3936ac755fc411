"""Opening: what is refused leaves everything as it was; what is opened keeps its promises."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from farfield.db import schema
from farfield.db.engine import Database, open_database, parse_url
from farfield.db.outage import is_away
from farfield.db.server import PATIENCE
from farfield.errors import FarfieldError, RecordError, SchemaError


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def refused(url: str, error: type[FarfieldError] = RecordError, **how: bool) -> str:
    """The message of the refusal: one line."""
    with pytest.raises(error) as caught:
        open_database(url, **how)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A SQLite record, closed."""
    found = tmp_path / "record.db"
    open_database(f"sqlite:///{found}", create=True).close()
    return found


def test_a_new_file_is_one_file_with_8_kb_pages(path: Path) -> None:
    assert [p.name for p in path.parent.iterdir()] == ["record.db"]
    with open_database(f"sqlite:///{path}") as opened:
        for durable, engine in (("2", opened.engine), ("1", opened.relaxed)):
            with engine.begin() as connection:
                found = {
                    name: str(connection.exec_driver_sql(f"PRAGMA {name}").scalar())
                    for name in ("page_size", "journal_mode", "foreign_keys", "synchronous")
                }
            assert found == {"page_size": "8192", "journal_mode": "wal", "foreign_keys": "1", "synchronous": durable}


def test_a_newer_schema_is_refused_and_untouched(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = contents(path.parent)
    for how in ({}, {"create": True}, {"readonly": True}):
        message = refused(f"sqlite:///{path}", SchemaError, **how)
        assert "9999" in message
        assert "pip install --upgrade farfield" in message
        assert contents(path.parent) == before


def test_a_newer_schema_is_refused_by_its_revision_alone(database: Database, url: str) -> None:
    def set_revision(revision: str) -> None:
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})

    set_revision("9999")
    try:
        with pytest.raises(SchemaError) as caught:
            open_database(url, create=True)
    finally:
        set_revision(schema.REVISION)
    assert (caught.value.found, caught.value.expected) == ("9999", schema.REVISION)


def test_what_is_no_record_is_refused_and_untouched(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE systems (id INTEGER)")
    connection.commit()
    connection.close()
    (tmp_path / "text.db").write_text("hello")
    (tmp_path / "empty.db").touch()
    before = contents(tmp_path)
    assert "no farfield tables" in refused(f"sqlite:///{foreign}", SchemaError, create=True)
    for name in ("text.db", "empty.db"):
        assert "not a SQLite database" in refused(f"sqlite:///{tmp_path / name}", create=True)
    assert "farfield run" in refused(f"sqlite:///{tmp_path / 'none.db'}")
    assert "no folder" in refused(f"sqlite:///{tmp_path / 'none' / 'a.db'}", create=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("url", ["mysql://a:secret@b/c", "sqlite://", "sqlite:///:memory:", "record.db", "bad://"])
def test_urls_that_cannot_hold_a_record(url: str) -> None:
    message = refused(url, create=True)
    assert "sqlite:///file.db" in message
    assert "secret" not in message


def test_an_unwritable_folder_is_refused_in_one_line() -> None:
    assert "run.folder" in refused("sqlite:////proc/farfield.db", create=True)


def test_a_folder_without_permission(path: Path) -> None:
    """As somebody to whom neither folder nor file belongs; root becomes nobody for it."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(dir="/tmp" if root else None) as folder:
        theirs = Path(shutil.copy(path, folder))
        theirs.chmod(0o444)
        Path(folder).chmod(0o555)
        if root:
            os.setresuid(65534, 65534, 0)
        try:
            assert "permissions" in refused(f"sqlite:///{theirs}")
            assert "permissions" in refused(f"sqlite:///{folder}/new.db", create=True)
            with open_database(f"sqlite:///{theirs}", readonly=True) as opened, opened.read() as connection:
                assert connection.execute(select(schema.blob)).all() == []
        finally:
            if root:
                os.setresuid(0, 0, 0)
        assert os.listdir(folder) == [theirs.name]
        Path(folder).chmod(0o755)


def test_a_server_that_is_not_there_is_said_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    message = refused(f"postgresql://me:secret@/x?host={tmp_path}")
    assert "check database.url" in message
    assert "secret" not in message


def test_a_server_that_takes_a_connection_and_never_speaks_is_not_there() -> None:
    """Its host hangs, say. Without a limit of our own nobody would ever be told."""
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/nothing"
        assert "cannot open" in refused(url)


def test_what_a_url_says_of_its_connection_counts() -> None:
    pytest.importorskip("psycopg")
    seen: dict[str, object] = {}
    with Database(parse_url("postgresql://me@127.0.0.1:1/nothing?connect_timeout=3")) as database:

        @event.listens_for(database.engine, "do_connect")
        def connecting(dialect, record, arguments, options):
            seen.update(options)

        with pytest.raises(OperationalError), database.read():
            pass
    assert int(seen["connect_timeout"]) == 3
    assert seen["tcp_user_timeout"] == PATIENCE["tcp_user_timeout"]


def test_reading_only_writes_nothing(database: Database, url: str) -> None:
    with open_database(url, readonly=True) as reader:
        with reader.read() as connection:
            assert connection.execute(select(schema.campaign)).all() == []
        with pytest.raises(RecordError, match="reading only"), reader.write():
            pass


def test_readonly_leaves_no_file_behind(path: Path) -> None:
    before = contents(path.parent)
    with open_database(f"sqlite:///{path}", readonly=True) as reader, reader.read() as connection:
        assert connection.execute(select(schema.blob)).all() == []
        with pytest.raises(OperationalError, match="readonly"):
            connection.execute(insert(schema.blob).values(digest=bytes(32), data=b"x"))
    assert contents(path.parent) == before


def test_a_writer_that_reads_first_holds_the_lock_already(path: Path) -> None:
    """With a deferred BEGIN, turning a read snapshot into a write fails at once, whatever the timeout."""
    with open_database(f"sqlite:///{path}") as database, database.write() as connection:
        connection.execute(select(schema.blob)).all()
        other = sqlite3.connect(path, timeout=0.0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        connection.execute(insert(schema.blob).values(digest=bytes(32), data=b"x"))


def test_a_write_is_whole_or_not_at_all(database: Database) -> None:
    def interrupted() -> None:
        with database.write() as connection:
            connection.execute(insert(schema.blob).values(digest=bytes(32), data=b"x"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with database.read() as connection:
        assert connection.execute(select(schema.blob)).all() == []


def test_only_a_relaxed_transaction_may_be_lost(database: Database) -> None:
    """Also through a pool that gives a server's connection to whoever comes next: it is asked for each transaction."""
    if database.dialect == "sqlite":
        asked, relaxed, durable = "PRAGMA synchronous", 1, 2
        with database.write(relaxed=True) as connection:
            assert connection.exec_driver_sql(asked).scalar() == relaxed
    else:
        asked, durable = "SHOW synchronous_commit", "on"
        with database.write(relaxed=True) as connection:
            assert connection.exec_driver_sql(asked).scalar() == "off"
            connection.commit()
            raw = connection.connection.dbapi_connection
            assert raw is not None
            cursor = raw.cursor()
            cursor.execute(asked)
            assert cursor.fetchone() == (durable,)
            cursor.close()
            raw.rollback()
    with database.write() as connection:
        assert connection.exec_driver_sql(asked).scalar() == durable


def test_a_writer_that_stands_still_in_a_transaction_is_cut_off(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspended in the midst of one, it would keep all others from the rows it has locked."""
    open_database(postgres, create=True).close()
    monkeypatch.setattr("farfield.db.server.STANDSTILL_SECONDS", 1)

    def stand_still() -> None:
        with suspended.write() as connection:
            connection.exec_driver_sql("LOCK TABLE blob IN EXCLUSIVE MODE")
            with others.write() as other:
                other.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
                other.exec_driver_sql("LOCK TABLE blob IN EXCLUSIVE MODE")
            connection.execute(select(schema.blob))

    with open_database(postgres) as suspended, open_database(postgres) as others:
        with pytest.raises(DBAPIError) as fault:
            stand_still()
        assert is_away(fault.value)  # so it tries again
        with suspended.write() as connection:
            connection.execute(select(schema.blob))
        with suspended.read() as connection:  # a reader holds nobody up
            assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "0"


def test_foreign_keys_hold(database: Database) -> None:
    row = {"key": "k", "natoms": 1, "formula": "Cu", "blob_id": 77}
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(schema.structure).values(row))


def test_many_creators_make_one_database(tmp_path: Path) -> None:
    code = (
        "import sys; from farfield.db.engine import open_database; from farfield.db.record import Record\n"
        "print(Record(open_database(sys.argv[1], create=True)).create_campaign(sys.argv[2], {}, {}))"
    )
    url = f"sqlite:///{tmp_path / 'record.db'}"
    running = [
        subprocess.Popen([sys.executable, "-c", code, url, f"c{k}"], stdout=subprocess.PIPE, text=True)
        for k in range(3)
    ]
    ids = sorted(int(p.communicate()[0]) for p in running)
    assert ids == [1, 2, 3]
    open_database(url).close()  # of two that close at once neither may be the last
    assert [p.name for p in tmp_path.iterdir()] == ["record.db"]


def test_a_name_with_strange_letters_is_a_file_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "a b#ç.db"
    open_database(f"sqlite:///{path}", create=True).close()
    with open_database(f"sqlite:///{path}") as opened, opened.write() as connection:
        connection.execute(insert(schema.blob).values(digest=bytes(32), data=b"x"))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
