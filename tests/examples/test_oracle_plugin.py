"""The example plug-in as its reader meets it: installed in a fresh environment, checked, tested, and run."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "oracle-plugin"
CAMPAIGN = """
[campaign]
name = "morse"
[target]
size = 4
tol_geo = 0.1
tol_energy = 0.1
[surrogate]
level = 0
[oracle]
name = "morse"
parameters = { depth = 0.34 }
[cluster]
workers = 1
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that has the example and sees the packages of this one."""
    folder = tmp_path_factory.mktemp("plugin")
    venv.create(folder / "venv", with_pip=False)
    found = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python3.*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "tests.pth").write_text("\n".join(lines) + "\n")
    source = shutil.copytree(EXAMPLE, folder / "source")  # a build leaves its traces
    install = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", str(source)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(found)]
    done = subprocess.run([*pip, *install], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return found


def call(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "FARFIELD_DATABASE"}
    command = [str(python), "-m", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def test_it_is_short() -> None:
    lines = [n for path in EXAMPLE.rglob("*.py") for n in path.read_text(encoding="utf-8").splitlines() if n.strip()]
    assert len(lines) < 40


def test_it_fulfils_the_contract_by_the_name_of_its_package(python: Path, tmp_path: Path) -> None:
    listed = json.loads(call(python, tmp_path, "farfield", "oracle", "list", "--json").stdout)
    assert [o["package"] for o in listed if o["name"] == "morse"] == ["farfield-morse"]
    done = call(python, tmp_path, "farfield", "oracle", "check", "farfield_morse", "--system", "fcc-Cu", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["oracle"] == "morse"
    assert told["passed"]
    assert {c["verdict"] for c in told["checks"]} == {"pass", "-"}


def test_its_own_tests_pass(python: Path) -> None:
    source = python.parents[2] / "source"
    done = call(python, source, "pytest", "-q", "-p", "no:cacheprovider", "test_farfield_morse.py")
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout


def test_a_wrong_parameter_is_refused_when_the_file_is_read(python: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CAMPAIGN.replace("depth = 0.34", "dept = 0.34"), encoding="utf-8")
    done = call(python, tmp_path, "farfield", "run", "c.toml")
    assert done.returncode == 2
    assert done.stderr == "farfield: oracle 'morse': oracle.parameters.dept is unknown; did you mean depth?\n"
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]


def test_a_campaign_runs_with_it(python: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CAMPAIGN, encoding="utf-8")
    done = call(python, tmp_path, "farfield", "run", "c.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stopped: tolerance met on" in done.stdout
    status = json.loads(call(python, tmp_path, "farfield", "status", "c.toml", "--json").stdout)
    assert status["state"] == "converged"
    assert status["calls"] > 10
