"""The table of rounds: every figure is there, whole, on a narrow and on a wide terminal."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

import pytest
from rich.console import Console

from farfield.service.cli.rounds import WIDE, Round, basis_lines, basis_of, noise_line, noise_of, rounds_table
from farfield.service.estimates import Estimate


def estimate() -> Estimate:
    values = {f.name: None for f in fields(Estimate)} | {
        "decision": 4,
        "rung": (3, 3, 4),
        "complete": False,
        "basis_size": 173,
        "eta_geo": 0.1234,
        "in_sample": 0.0021,
        "core": 0.0912,
        "fc": 0.0345,
        "v": 0.0056,
        "fold": 0.0078,
        "hidden": 0.0043,
        "grade": 0.87,
        "noise": 0.0031,
        "parametric_geo": 0.0099,
        "eta_energy": -0.01234,
        "formation_energy_raw": 11.2345,
        "formation_energy": 11.2222,
        "gates": {},
        "reason": "core residual dominates: verify on 3x4x4",
    }
    return Estimate(**values)


FIGURES = [
    *("3x3x4", "1 EFV, 2 FC", "1234", "0.1234", "0.0021", "0.0912", "0.0345"),
    *("0.0056", "0.0078", "0.0043", "0.87", "0.0031", "0.0099", "173", "-12.34", "11.2345", "11.2222"),
]


@pytest.mark.parametrize("width", [80, 100, WIDE, 200])
def test_every_figure_is_shown_whole(width: int) -> None:
    rounds = [
        Round(0, "1x1x1", "7 EV, 4 EFV", 0.1, "equation of state", None),
        Round(4, "3x3x4", "1 EFV, 2 FC", 1234.5, "core residual dominates: verify on 3x4x4", estimate()),
    ]
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(rounds_table(rounds, width))
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for figure in FIGURES:
        assert figure in text
    if width >= 200:
        assert "core residual dominates: verify on 3x4x4" in text


def test_the_basis_is_told_where_it_begins_and_why_it_grew() -> None:
    summaries: list[dict[str, Any]] = [
        {},
        {"basis_level": 2, "basis_size": 73},
        {"basis_level": 2, "basis_size": 73},
        {"basis_level": 3, "basis_size": 115, "grown": "the refit left more than half"},
        {"basis_level": 3, "basis_size": 115},
    ]
    rounds = [Round(n, "", "", 0.0, "", None, basis_of(s)) for n, s in enumerate(summaries)]
    assert basis_lines(rounds) == [
        "basis: level 2, 73 functions, from round 1",
        "basis: level 3, 115 functions, from round 3: the refit left more than half",
    ]
    assert rounds[3].to_json()["basis"] == {"level": 3, "size": 115, "grown": "the refit left more than half"}


def test_a_round_is_plain_json() -> None:
    row = Round(4, "3x3x4", "1 EFV", 1.0, "why", estimate()).to_json()
    assert row["estimate"]["theta"] == 2.5
    assert row["cells"] == "3x3x4"


def test_the_noise_is_told_once_it_is_known() -> None:
    measured = {"oracle_noise": {"energy": 1e-5, "force": 0.002, "virial": None}}
    assert noise_line([]) is None
    rounds = [Round(0, "", "", 0.0, "", None, None, noise_of({}))]  # before it was measured
    assert noise_line(rounds) is None
    rounds.append(Round(1, "", "", 0.0, "", None, None, noise_of(measured)))
    assert noise_line(rounds) == "noise of the oracle: sigma_E 1e-05 eV/atom, sigma_F 0.002 eV/Å"
    assert rounds[1].to_json()["noise"] == measured["oracle_noise"]
    none = noise_of({"oracle_noise": {"energy": 0.0, "force": 0.0, "virial": 0.0}})
    assert noise_line([Round(1, "", "", 0.0, "", None, None, none)]) == "noise: none, the oracle is analytic"
