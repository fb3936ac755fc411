"""Which faults of a database pass by themselves, told by what real ones say."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from postgres import Server, missing
from required import absent
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from farfield.db.outage import is_away, is_full


def test_sqlite_that_has_no_room_is_held_apart_from_a_wrong_statement(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'small.db'}")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (x)"))
        connection.exec_driver_sql("PRAGMA max_page_count = 3")
        with pytest.raises(DBAPIError) as full:
            connection.execute(text("INSERT INTO t VALUES (zeroblob(1000000))"))
        connection.rollback()
        with pytest.raises(DBAPIError) as wrong:
            connection.execute(text("SELECT y FROM t"))
    engine.dispose()
    assert (is_away(full.value), is_full(full.value)) == (True, True)
    assert (is_away(wrong.value), is_full(wrong.value)) == (False, False)


def test_sqlite_that_another_writes_is_away_not_full(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    one, two = create_engine(url), create_engine(url, connect_args={"timeout": 0.01})
    with one.connect() as holder, two.connect() as waiter:
        holder.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(DBAPIError) as busy:
            waiter.exec_driver_sql("CREATE TABLE t (x)")
        holder.rollback()
    one.dispose()
    two.dispose()
    assert (is_away(busy.value), is_full(busy.value)) == (True, False)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_that_is_stopped(mode: str) -> None:
    if (why := missing()) is not None:
        absent("postgres", why)
    server = Server()
    engine = create_engine(server.url)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            with pytest.raises(DBAPIError) as wrong:
                connection.execute(text("SELECT y FROM nowhere"))
            connection.rollback()
            server.stop(mode)
            with pytest.raises(DBAPIError) as cut:
                connection.execute(text("SELECT 1"))
        with pytest.raises(DBAPIError) as refused:
            engine.connect()
        server.start()
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    finally:
        engine.dispose()
        server.close()
    assert not is_away(wrong.value)
    assert is_away(cut.value)
    assert is_away(refused.value)
    assert not is_full(cut.value)


def test_what_the_system_says_of_a_full_disk() -> None:
    assert is_full(OSError(errno.ENOSPC, "full"))
    assert is_full(OSError(errno.EDQUOT, "share is full"))
    assert not is_full(OSError(errno.EACCES, "no"))
    assert not is_away(OSError(errno.ENOSPC, "full"))
