"""Oracles by name: registered ones, ones of the user's own, and refusals in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from farfield.errors import OracleLoadError
from farfield.oracles import registry
from farfield.oracles.emt import EMTOracle

HERE = Path(__file__).parent


def test_the_built_in_oracles_are_registered() -> None:
    known = registry.available()
    assert {"ase", "emt"} <= set(known)
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
    ("name", "parameters", "message"),
    [
        ("emtt", {}, "did you mean 'emt'"),
        ("quantum", {}, "known are ase, emt"),
        ("emt", {"cutoff": 3}, "refuses its parameters.*cutoff"),
        ("nowhere.at.all:Oracle", {}, "cannot be imported"),
        ("farfield.oracles.emt:EMTOracel", {}, "EMTOracel"),
        ("farfield.oracles.registry:GROUP", {}, "is no oracle"),
        ("builtins:dict", {}, "is no oracle"),
        ("misbehaving:Unloadable", {}, "no such pseudopotential"),
        (":", {}, "package.module:Class"),
    ],
)
def test_refusals_are_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, parameters: dict[str, int], message: str
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    with pytest.raises(OracleLoadError, match=message) as fault:
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
    with pytest.raises(OracleLoadError, match="half installed"):
        registry.load("broken")


def test_one_name_from_two_packages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[farfield.oracles]\nemt = rival:Oracle\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OracleLoadError, match="two packages register"):
        registry.load("emt")
