"""`farfield import`: labels of others are taken over once, and only where the oracle says the same."""

from __future__ import annotations

import json
from pathlib import Path

from ase.io import read, write

from farfield.db.engine import open_database


def test_three_are_asked_again_and_all_are_stored_once(farfield, shelf: Path) -> None:
    (said,) = json.loads(farfield("import", "theirs.xyz", "--json").out)
    assert len({c["frame"] for c in said["rechecked"]}) == 3
    assert (said["new"], said["known"]) == (0, 12)
    write(shelf / "more.xyz", read(shelf / "theirs.xyz", ":3"))
    done = farfield("import", "more.xyz")
    assert "0 stored, 3 known already" in done.out
    assert json.loads(farfield("ls", "imported", "--count", "--json").out) == {"count": 12}
    assert "more.xyz" in farfield("db", "info", "--json").out or farfield("ls", "source=more.xyz", "--count").code in (
        0,
        2,
    )


def test_another_oracle_s_labels_are_refused_whole(farfield, shelf: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator

    wrong = read(shelf / "theirs.xyz", ":")
    for atoms in wrong:
        atoms.rattle(0.001, seed=99)
        atoms.calc = SinglePointCalculator(atoms, energy=1.0 + atoms.positions.sum(), forces=atoms.positions)
    write(shelf / "wrong.xyz", wrong)
    done = farfield("import", "wrong.xyz")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "nothing was imported" in done.err
    assert farfield("ls", "--count").out == "12\n"


def test_a_dry_run_stores_nothing(farfield, shelf: Path) -> None:
    (shelf / "other.toml").write_text((shelf / "campaign.toml").read_text().replace('"out"', '"none"'))
    done = farfield("import", "theirs.xyz", "--file", "other.toml", "--dry-run")
    assert (done.code, (shelf / "none").exists()) == (0, False)
    assert "nothing was stored" in done.out


def test_files_that_hold_nothing(farfield, shelf: Path) -> None:
    (shelf / "empty.xyz").write_text("")
    (shelf / "words.txt").write_text("not a structure\n")
    for name in ("empty.xyz", "words.txt", "missing.xyz", "."):
        done = farfield("import", name)
        assert (done.code, done.err.count("\n")) == (2, 1), (name, done)
    with open_database(f"sqlite:///{shelf}/out/campaign.db", readonly=True):
        pass
