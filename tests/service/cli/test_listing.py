"""`farfield ls`, `show` and `summary`, as a person meets them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from farfield.db.engine import open_database


def test_the_same_rows_in_every_dress(farfield, shelf: Path) -> None:
    rows = [json.loads(line) for line in farfield("ls", "natoms=4", "--json").out.splitlines()]
    assert [r["natoms"] for r in rows] == [4] * 6
    table = list(csv.DictReader(io.StringIO(farfield("ls", "natoms=4", "--csv").out)))
    assert [float(r["energy"]) for r in table] == [r["energy"] for r in rows]
    assert list(table[0]) == list(rows[0])
    plain = farfield("ls", "natoms=4").out
    assert all(r["key"][:10] in plain for r in rows)
    assert farfield("ls", "natoms=4", "--count").out == "6\n"
    assert farfield("ls", "--database", "out/campaign.db", "--count").out == "12\n"


@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_pages_make_the_whole(farfield, shelf: Path, size: int) -> None:
    every, after = [], 0
    while rows := [
        json.loads(x) for x in farfield("ls", "--json", "-n", str(size), "--after", str(after)).out.splitlines()
    ]:
        assert len(rows) <= size
        every += [r["id"] for r in rows]
        after = rows[-1]["id"]
    assert every == [json.loads(x)["id"] for x in farfield("ls", "--json", "-n", "0").out.splitlines()]
    assert len(every) == 12


def test_more_is_said_only_where_there_is_more(farfield, shelf: Path) -> None:
    assert "--after" in farfield("ls", "-n", "11").out
    for least in ("12", "13", "0"):
        assert "--after" not in farfield("ls", "-n", least).out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ls", "natoms<"], "^"),
        (["ls", "natom<5"], "natoms"),
        (["ls", "kind=Q"], "kind"),
        (["ls", "'; DROP TABLE blob"], "^"),
        (["ls", "", "--database", "none.db"], "no database"),
        (["ls", "", "--file", "none.toml"], "no campaign file"),
        (["ls", "", "--database", "campaign.toml"], ""),
        (["ls", "", "--database", "."], ""),
        (["ls", "", "--database", "mysql://x/y"], "sqlite"),
        (["show", "zzz"], ""),
        (["show", "999999"], ""),
        (["show", ""], ""),
        (["summary", "energy >"], "^"),
    ],
)
def test_what_is_wrong_is_said_with_the_mend(farfield, shelf: Path, words: list[str], says: str) -> None:
    done = farfield(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("farfield: ")
    assert says in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == (3 if "^" in done.err else 1)


def test_nothing_there(farfield, tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/new.db", create=True).close()
    words = ("--database", "new.db")
    assert "nothing fits" in farfield("ls", *words).out
    assert "nothing fits" in farfield("summary", *words).out
    assert farfield("ls", "--json", *words).out == ""
    assert farfield("ls", "--count", *words).out == "0\n"
    assert farfield("summary", "--json", *words).code == 0
    assert farfield("db", "check", "new.db").code == 0
    done = farfield("export", "--all", "-o", "x.xyz", *words)
    assert (done.code, (tmp_path / "x.xyz").exists()) == (2, False)


def test_a_calculation_is_shown_by_id_and_by_key(farfield, shelf: Path) -> None:
    row = json.loads(farfield("ls", "--json", "-n", "1").out)
    by_id, by_key = (json.loads(farfield("show", x, "--json").out) for x in (str(row["id"]), row["key"][:12]))
    assert by_id == by_key
    assert row["key"] in farfield("show", str(row["id"])).out
    assert "theirs.xyz" in farfield("show", str(row["id"])).out


def test_a_summary_counts_what_is_there(farfield, shelf: Path) -> None:
    found = json.loads(farfield("summary", "--json").out)
    assert found["count"] == 12
    assert "12 calculations" in farfield("summary").out
    assert "Cu" in farfield("summary", "natoms>4").out


def test_the_help_tells_the_language(farfield, shelf: Path) -> None:
    said = farfield("ls", "--fields").out
    for word in ("natoms", "is known", "not", "campaign", "failed", "energy"):
        assert word in said
    for verb in (["ls"], ["show"], ["summary"], ["dataset", "freeze"], ["export"], ["import"], ["db", "copy"]):
        assert farfield(*verb, "--help").code == 0


def test_a_reader_that_leaves_is_no_fault(shelf: Path) -> None:
    """As in `farfield ls --json | head -1`."""
    command = f"{sys.executable} -m farfield ls --json -n 0 | head -1"
    done = subprocess.run(command, shell=True, cwd=shelf, capture_output=True, text=True, timeout=120, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
