"""Oracles by name: registered ones, ones of the user's own, and refusals in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from farfield.errors import (
    OracleAmbiguous,
    OracleLoadError,
    OracleMissing,
    OracleNotImportable,
    OracleParameterError,
    OracleWrongType,
)
from farfield.oracles import registry
from farfield.oracles.emt import EMTOracle

HERE = Path(__file__).parent


def test_the_built_in_oracles_are_registered() -> None:
    known = registry.available()
    assert {"ase", "command", "emt", "teacher"} <= set(known)
    assert list(known) == sorted(known)
    assert all(entry.description and not entry.description.startswith("cannot") for entry in known.values())


def test_load_by_name_and_by_module() -> None:
    assert isinstance(registry.load("emt", {}), EMTOracle)
    assert isinstance(registry.load("farfield.oracles.emt:EMTOracle"), EMTOracle)
    assert registry.load("ase", {"calculator": "ase.calculators.lj.LennardJones"}).mesh == "fixed"


def test_an_oracle_of_a_test_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    assert registry.load("misbehaving:Sound", {"depth": 2}).fingerprint()["parameters"] == {"depth": 2}


@pytest.mark.parametrize(
    ("name", "parameters", "kind", "message"),
    [
        ("emtt", {}, OracleMissing, "did you mean 'emt'"),
        ("quantum", {}, OracleMissing, "known are ase, command, emt"),
        ("emt", {"cutoff": 3}, OracleParameterError, r"oracle\.parameters\.cutoff is unknown; it takes none"),
        ("nowhere.at.all:Oracle", {}, OracleNotImportable, "cannot be imported"),
        ("farfield.oracles.emt:EMTOracel", {}, OracleMissing, "EMTOracel"),
        ("farfield.oracles.registry:GROUP", {}, OracleWrongType, "is no oracle"),
        ("builtins:dict", {}, OracleWrongType, "lacks evaluate, fingerprint, cost, name, supports, mesh, analytic"),
        ("misbehaving:Unloadable", {}, OracleParameterError, "no such pseudopotential"),
        ("misbehaving:Unsupported", {}, OracleWrongType, "supports lists FC"),
        ("misbehaving:Meshless", {}, OracleWrongType, "mesh is 'gamma'"),
        ("misbehaving:Unhashable", {}, OracleWrongType, "fingerprint is no JSON object.*ndarray"),
        (":", {}, OracleMissing, "package.module:Class"),
    ],
)
def test_refusals_are_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, parameters: dict[str, int], kind: type[OracleLoadError], message: str
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    with pytest.raises(kind, match=message) as fault:
        registry.load(name, parameters)
    assert "\n" not in str(fault.value)
    assert fault.value.failure == "input error"


def test_a_broken_plug_in_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_oracle.py").write_text("raise RuntimeError('half installed')\n")
    info = tmp_path / "broken_oracle-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-oracle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[farfield.oracles]\nbroken = broken_oracle:Oracle\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = registry.available()
    assert known["broken"].description == "cannot be imported: half installed"
    assert "emt" in known
    with pytest.raises(OracleNotImportable, match="half installed"):
        registry.load("broken")


def test_one_name_from_two_packages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[farfield.oracles]\nemt = rival:Oracle\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OracleAmbiguous, match="two packages register"):
        registry.load("emt")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("emt", "emt"),
        ("farfield.oracles.emt", "emt"),
        ("lonely", "lonely:Mine"),
        ("misbehaving:Sound", "misbehaving:Sound"),
    ],
)
def test_a_package_stands_for_its_one_oracle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
) -> None:
    body = "class Mine:\n    def evaluate(self): ...\n    def fingerprint(self): ...\nclass Other: ...\n"
    (tmp_path / "lonely.py").write_text(f"from farfield.oracles.emt import EMTOracle\n{body}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.find(name) == found


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("farfield", OracleAmbiguous, "name one of them"),
        ("misbehaving", OracleAmbiguous, "name one: misbehaving:"),
        ("json.decoder", OracleMissing, "has no class with `evaluate`"),
        ("emtt", OracleMissing, "did you mean 'emt'"),
        ("no such thing", OracleMissing, "there is no oracle"),
    ],
)
def test_a_package_without_or_with_many_oracles_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: type[OracleLoadError], message: str
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    with pytest.raises(kind, match=message):
        registry.find(name)
