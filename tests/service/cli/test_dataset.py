"""`farfield dataset` and `farfield export`, as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.io import read


def test_frozen_listed_compared_verified_and_exported_again(farfield, shelf: Path) -> None:
    assert farfield("dataset", "freeze", "small", "--where", "natoms=4").code == 0
    made = json.loads(
        farfield("dataset", "freeze", "all", "--split", "train=0.5,test=0.5", "--seed", "3", "--json").out
    )
    assert made["members"] == 12
    assert [d["name"] for d in json.loads(farfield("dataset", "list", "--json").out)] == ["small", "all"]
    assert "small: 6 structures" in farfield("dataset", "list").out
    found = farfield("dataset", "diff", "small", "all", "--json")
    assert (found.code, {k: len(v) for k, v in json.loads(found.out).items()}) == (
        1,
        {"removed": 0, "added": 6, "changed": 0},
    )
    assert farfield("dataset", "diff", "all", "all").code == 0
    assert "all as they were frozen" in farfield("dataset", "verify", "all").out
    for name in ("a.xyz", "b.xyz"):
        assert farfield("export", "--dataset", "all", "-o", name).code == 0
    assert (shelf / "a.xyz").read_bytes() == (shelf / "b.xyz").read_bytes()
    parts = []
    for part in ("train", "test"):
        assert farfield("export", "--dataset", "all", "--part", part, "-o", f"{part}.xyz").code == 0
        parts += read(shelf / f"{part}.xyz", ":")
    assert len(parts) == 12


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dataset", "freeze", "x", "--where", "natoms>99"], ""),
        (["dataset", "freeze", "x", "--where", "natoms>"], "^"),
        (["dataset", "freeze", "x", "--split", "train"], "--split"),
        (["dataset", "freeze", "x", "--split", "train=-1,test=2"], ""),
        (["dataset", "freeze", "", "--where", "natoms=4"], ""),
        (["dataset", "verify", "none"], "none"),
        (["dataset", "diff", "none", "nil"], "none"),
        (["export", "--dataset", "none", "-o", "x.xyz"], "none"),
        (["export", "--all", "-o", "x.doc"], ""),
        (["export", "--all", "-o", "missing/x.xyz"], "missing"),
        (["export", "--all", "-o", "out/campaign.db", "--format", "ase"], ""),
        (["export", "--all", "--weights", "mine", "-o", "x.xyz"], "framework"),
        (["export", "--all", "--weights", "framework", "-o", "x.xyz"], "campaign"),
        (["export", "--part", "train", "-o", "x.xyz"], "--dataset"),
        (["export", "--all", "-o", "x.xyz", "--energy-key", "two words"], ""),
    ],
)
def test_what_is_wrong_is_said_and_leaves_nothing(farfield, shelf: Path, words: list[str], says: str) -> None:
    before = sorted(p.name for p in shelf.rglob("*"))
    done = farfield(*words)
    assert (done.code, done.out) == (2, ""), done
    assert done.err.startswith("farfield: ")
    assert says in done.err
    assert len(done.err.splitlines()) == (3 if "^" in done.err else 1)
    assert sorted(p.name for p in shelf.rglob("*")) == before
    assert farfield("dataset", "list", "--json").out == "[]\n"
