"""The verbs one after the other on a small real campaign: plan, run, status, export, report, stop, verify."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from typer.testing import CliRunner, Result

from farfield.oracles.emt import EMTOracle
from farfield.service.cli.app import app
from farfield.service.surrogate import Surrogate, SurrogateCalculator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a campaign file that ran to its end."""
    folder = tmp_path_factory.mktemp("campaign")
    assert (
        call(folder, "init", "cu.toml", "--size", "5", "--tol-geo", "0.1", "--lattice-constant", "3.59").exit_code == 0
    )
    done = call(folder, "run", "cu.toml")
    assert done.exit_code == 0, done.output
    (folder / "output.txt").write_text(done.output, encoding="utf-8")
    return folder


def call(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FARFIELD_DATABASE", raising=False)
        result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_run_says_why_it_stopped_where_things_lie_and_what_is_next(folder: Path) -> None:
    text = (folder / "output.txt").read_text(encoding="utf-8")
    assert "Stopped: tolerance met on" in text
    for name in ("campaign.db", "report.html", "dataset.xyz", "surrogate.farfield"):
        assert str(folder / "runs" / "cu" / name) in text
        assert (folder / "runs" / "cu" / name).stat().st_size > 0
    assert "Next:" in text


def test_plan_buys_nothing_and_agrees_with_what_run_buys(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cu.toml").write_text((folder / "cu.toml").read_text(encoding="utf-8"), encoding="utf-8")
    done = call(tmp_path, "plan", "cu.toml", "--json")
    assert done.exit_code == 0
    plan = json.loads(done.stdout)
    assert not list(tmp_path.rglob("*.db"))
    cells = read(plan["cells"], index=":")
    first = json.loads(call(folder, "status", "cu.toml", "--json").stdout)["rounds"][0]
    assert plan["steps"][0]["buys"] == first["bought"]
    assert plan["steps"][0]["calls"] == len(cells)
    assert all(atoms.info["config_type"] for atoms in cells)
    assert plan["steps"][-1]["atoms"] < plan["target_atoms"]


def test_status_tells_the_whole_record(folder: Path) -> None:
    status = json.loads(call(folder, "status", "cu.toml", "--json").stdout)
    assert status["state"] == "converged"
    assert status["controller"] is None
    assert status["calls"] >= sum(1 for r in status["rounds"])
    last = status["rounds"][-1]["estimate"]
    assert last["theta"] * last["eta_geo"] <= 0.1
    by_database = call(folder, "status", "--database", "runs/cu/campaign.db", "--json")
    assert json.loads(by_database.stdout)["rounds"] == status["rounds"]
    shown = call(folder, "status", "cu.toml").stdout
    assert "tolerance met" in shown
    assert "noise: none, the oracle is analytic" in shown
    assert status["noise"] == {"energy": 0.0, "force": 0.0, "virial": 0.0}


def test_export_reads_back_bit_for_bit_against_the_oracle(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.xyz"
    assert call(folder, "export", "cu.toml", "-o", str(path)).exit_code == 0
    atoms = read(path, index=":")[0]
    direct = EMTOracle().evaluate(atoms, ("E", "F")).values
    assert atoms.info["REF_energy"] == pytest.approx(direct["E"], abs=1e-9)
    assert (tmp_path / "labels.manifest.json").exists()


def test_the_surrogate_file_is_an_ase_calculator(folder: Path) -> None:
    surrogate = Surrogate.load(folder / "runs" / "cu" / "surrogate.farfield")
    atoms = read(folder / "runs" / "cu" / "dataset.xyz", index=-1)
    atoms.calc = SurrogateCalculator(surrogate)
    assert np.abs(atoms.get_forces() - atoms.arrays["REF_forces"]).max() < 0.05


def test_report_is_one_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    assert call(folder, "report", "cu.toml", "-o", str(path)).exit_code == 0
    text = path.read_text(encoding="utf-8")
    assert "<html" in text
    assert 'src="http' not in text


@pytest.mark.parametrize("verb", [("run",), ("verify", "--yes")])
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("size = 5", "size = 6", "target.size"), ("seed = 0", "seed = 1", "campaign.seed")],
)
def test_another_file_than_the_campaign_s_is_refused_and_nothing_written(
    folder: Path, verb: tuple[str, ...], old: str, new: str, says: str
) -> None:
    text = (folder / "cu.toml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / "other.toml").write_text(text.replace(old, new), encoding="utf-8")
    before = (folder / "runs" / "cu" / "campaign.db").read_bytes()
    done = call(folder, verb[0], "other.toml", *verb[1:])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr
    assert (folder / "runs" / "cu" / "campaign.db").read_bytes() == before


def test_stop_of_an_idle_campaign_says_so(folder: Path) -> None:
    done = call(folder, "stop", "cu.toml")
    assert (done.exit_code, "not running" in done.stdout) == (0, True)


def test_verify_finds_the_errors_within_tolerance_and_records_its_calls(folder: Path) -> None:
    before = json.loads(call(folder, "status", "cu.toml", "--json").stdout)["calls"]
    assert call(folder, "verify", "cu.toml", "--json").exit_code == 2  # cannot ask
    done = call(folder, "verify", "cu.toml", "--yes", "--json")
    assert done.exit_code == 0, done.output
    truth = json.loads(done.stdout)
    assert truth["within"]
    assert truth["relaxed"]
    assert not truth["other_basin"]
    assert 0.3 <= truth["ratio_geo"] <= 4
    status = json.loads(call(folder, "status", "cu.toml", "--json").stdout)
    assert status["calls"] - before == status["by_role"]["verify"][0] >= 1
    again = json.loads(call(folder, "verify", "cu.toml", "--yes", "--json").stdout)
    assert again == truth
    assert json.loads(call(folder, "status", "cu.toml", "--json").stdout)["calls"] == status["calls"]
