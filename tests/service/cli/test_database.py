"""`farfield db`, as a person meets it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path


def test_checked_copied_described(farfield, shelf: Path) -> None:
    assert "sound" in farfield("db", "check").out
    assert json.loads(farfield("db", "info", "--json").out)["rows"]["calculation"] == 12
    assert "12 rows" in farfield("db", "info", "out/campaign.db").out
    assert farfield("db", "copy", "out/campaign.db", "copy.db").code == 0
    assert farfield("ls", "--json", "--database", "copy.db").out == farfield("ls", "--json").out
    assert "already at revision" in farfield("db", "upgrade").out


def test_a_database_that_nobody_may_write_can_be_read(farfield, shelf: Path) -> None:
    place = shelf / "archive"
    place.mkdir()
    shutil.copy(shelf / "out" / "campaign.db", place)
    (place / "campaign.db").chmod(0o444)
    place.chmod(0o555)
    try:
        words = ("--database", "archive/campaign.db")
        assert farfield("ls", "--count", *words).out == "12\n"
        assert farfield("export", "--all", "-o", "x.xyz", *words).code == 0
        assert farfield("db", "check", "archive/campaign.db").code == 0
        assert sorted(p.name for p in place.iterdir()) == ["campaign.db"]
    finally:
        place.chmod(0o755)


def test_faults_are_told_and_are_exit_code_1(farfield, shelf: Path) -> None:
    with sqlite3.connect(shelf / "out" / "campaign.db") as connection:
        connection.execute("UPDATE blob SET data = x'00' WHERE id = 1")
    connection.close()
    done = farfield("db", "check")
    assert done.code == 1
    assert "blob 1" in done.out
    broken = farfield("export", "--all", "-o", "x.npz")
    assert (broken.code, (shelf / "x.npz").exists()) == (2, False)
    assert len(broken.err.splitlines()) == 1


def test_what_is_wrong_is_said(farfield, shelf: Path) -> None:
    for words in (
        ("db", "check", "none.db"),
        ("db", "copy", "none.db", "to.db"),
        ("db", "copy", "out/campaign.db", "out/campaign.db"),
        ("db", "copy", "out/campaign.db", "nowhere/to.db"),
        ("db", "copy", "out/campaign.db", "postgresql://nobody:secret@127.0.0.1:1/x"),
        ("db", "upgrade", "campaign.toml"),
        ("db", "info", "theirs.xyz"),
    ):
        done = farfield(*words)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), (words, done)
        assert "secret" not in done.err
    assert not (shelf / "to.db").exists()
