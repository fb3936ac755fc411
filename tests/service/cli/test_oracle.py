"""`farfield oracle`: the list, and the contract through the sandbox with its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner, Result

from farfield.oracles.contract import CHECKS
from farfield.service.cli.app import app

ORACLES = Path(__file__).parents[2] / "oracles"
LJ = ["-p", "calculator=ase.calculators.lj.LennardJones", "-p", "parameters.sigma=2.3", "-p", "parameters.rc=6"]


def call(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ORACLES))
        patch.delenv("FARFIELD_DATABASE", raising=False)
        result = CliRunner().invoke(app, ["oracle", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_list_has_what_we_ship(tmp_path: Path) -> None:
    found = {o["name"]: o for o in json.loads(call(tmp_path, "list", "--json").stdout)}
    assert {"ase", "command", "emt", "teacher"} <= set(found)
    assert "emt" in call(tmp_path, "list").stdout


def test_a_sound_oracle_passes_with_a_line_for_each_check(tmp_path: Path) -> None:
    done = call(tmp_path, "check", "emt", "--system", "fcc-Al")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "emt on fcc-Al, 4 atoms"
    assert [line[:22].strip() for line in lines[3 : 3 + len(CHECKS)]] == list(CHECKS)
    assert lines[-1] == "All checks passed."
    assert list(tmp_path.iterdir()) == []


def test_json_has_figures_bounds_and_verdicts(tmp_path: Path) -> None:
    done = call(tmp_path, "check", "ase", *LJ, "-p", "analytic=true", "-p", "parameters.smooth=true", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0, told
    assert told["passed"]
    assert told["fingerprint"]["parameters"] == {"sigma": 2.3, "rc": 6, "smooth": True}
    slope = next(c for c in told["checks"] if c["name"] == "F = -dE/dx")
    assert slope["verdict"] == "pass"
    assert 0 < slope["figure"] < slope["bound"]
    assert slope["unit"] == "eV/Å"


@pytest.mark.parametrize(
    ("oracle", "failed", "says"),
    [
        ("misbehaving:WrongSign", "F = -dE/dx", "the sign is wrong"),
        ("misbehaving:Stressless", "declared kinds", "supports V and leaves it out"),
        ("misbehaving:Leftover", "own answer", "bit for bit"),
        ("misbehaving:Segfaulting", "answer", "killed by signal 11"),
        ("misbehaving:Endless", "answer", "did not answer within 1 s"),
    ],
)
def test_the_exit_code_says_whether_one_failed(tmp_path: Path, oracle: str, failed: str, says: str) -> None:
    limit = "1" if "within 1 s" in says else "600"
    done = call(tmp_path, "check", oracle, "--wall-time", limit, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    bad = [c for c in told["checks"] if c["verdict"] == "fail"]
    assert [c["name"] for c in bad] == [failed]
    assert says in bad[0]["detail"]


def test_a_stress_that_is_left_out_is_not_judged(tmp_path: Path) -> None:
    told = json.loads(call(tmp_path, "check", "misbehaving:Stressless", "--json").stdout)
    virial = next(c for c in told["checks"] if c["name"] == "V = -dE/d(strain)")
    assert virial["verdict"] == "-"
    assert "left out V" in virial["detail"]


def test_a_package_a_campaign_file_and_a_structure_file(tmp_path: Path) -> None:
    assert call(tmp_path, "check", "farfield.oracles.emt", "--json").exit_code == 0
    (tmp_path / "c.toml").write_text('[host]\nspecies = ["Ag"]\n')
    told = json.loads(call(tmp_path, "check", "c.toml", "--json").stdout)
    assert (told["system"], told["oracle"]) == ("fcc-Ag", "emt")
    write(tmp_path / "cell.cif", bulk("Ni", cubic=True))
    told = json.loads(call(tmp_path, "check", "emt", "--system", "cell.cif", "--json").stdout)
    assert (told["system"], told["atoms"], told["passed"]) == ("cell.cif", 4, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["emtt"], "did you mean 'emt'"),
        (["emt", "-p", "cutof=3"], "oracle.parameters.cutof is unknown"),
        (["emt", "-p", "cutoff"], "is not KEY=VALUE"),
        (["emt", "--system", "fcc-W"], "emt has no parameters for W"),
        (["emt", "--system", "hcp-Mg"], "neither a crystal"),
        (["emt", "--system", "fcc-Xx"], "unknown element"),
        (["ase", *LJ, "-p", "calculator.x=1"], "calculator is given as a value too"),
        (["command", "-p", "version=1"], "oracle.parameters.command is lacking"),
        (["teacher", "-p", "file=nowhere"], "cannot be read"),
        (["misbehaving"], "name one: misbehaving:"),
        (["nothing.toml"], "no campaign file nothing.toml"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = call(tmp_path, "check", *arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("farfield: ")
    assert says in done.stderr


def test_a_campaign_whose_oracle_always_dies_ends_with_its_last_words(tmp_path: Path) -> None:
    text = "[host]\nlattice_constant = 3.59\n[run]\nfolder = 'out'\n[oracle]\nname = 'misbehaving:Quitting'\n"
    (tmp_path / "c.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.syspath_prepend(str(ORACLES))
        patch.delenv("FARFIELD_DATABASE", raising=False)
        done = CliRunner().invoke(app, ["run", "c.toml"])
        status = CliRunner().invoke(app, ["status", "c.toml", "--json"])
        shown = CliRunner().invoke(app, ["status", "c.toml"])
    assert done.exit_code == 1
    assert "(crashed: the oracle's process ended with exit code 7; it said: no licence)" in " ".join(
        done.stdout.split()
    )
    message = json.loads(status.stdout)["failures"]["crashed"]
    words, folder = message.split("; its files are in ")
    assert words == "the oracle's process ended with exit code 7; it said: no licence"
    assert (Path(folder) / "output.log").read_text() == "no licence\n"
    assert f"calls failed: crashed; the last: {words}" in shown.stdout


def test_wrong_parameters_are_refused_when_the_campaign_file_is_read(tmp_path: Path) -> None:
    text = "[run]\nfolder = 'out'\n[oracle]\nname = 'ase'\nparameters = { calculater = 'x' }\n"
    (tmp_path / "c.toml").write_text(text)
    for verb in ("plan", "run"):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            done = CliRunner().invoke(app, [verb, "c.toml"])
        assert done.exit_code == 2
        fault = "farfield: oracle 'ase': oracle.parameters.calculater is unknown; did you mean calculator?\n"
        assert done.stderr == fault
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]
