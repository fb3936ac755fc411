"""Wrong input: one line with the fault and the mend, exit code 2, and the database as it was."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.record import Record
from farfield.errors import CampaignError, CampaignInterrupted
from farfield.oracles import registry
from farfield.service.campaign.config import CampaignConfig
from farfield.service.cli.app import app
from farfield.service.runner.runner import Runner
from farfield.service.runner.session import Session

CAMPAIGN = """
[campaign]
name = "c"
[run]
folder = "out"
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def farfield(*arguments: str, cwd: Path) -> Done:
    """The command line in this process, as a person in `cwd` would call it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.delenv("FARFIELD_DATABASE", raising=False)
        result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def refused(folder: Path, text: str | None, *says: str, verb: str = "run") -> None:
    """`verb` on a file with `text` ends with one line that holds every one of `says`, and leaves no database."""
    if text is not None:
        (folder / "c.toml").write_text(CAMPAIGN + text, encoding="utf-8")
    done = farfield(verb, "c.toml", cwd=folder)
    assert done.code == 2, done.err
    assert done.err.startswith("farfield: ")
    assert done.err.count("\n") == 1
    for phrase in says:
        assert phrase in done.err
    assert not list(folder.rglob("*.db"))


def test_no_traceback_leaves_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "farfield", "run", "nothing.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "farfield: no campaign file nothing.toml; make one with `farfield init`\n"


def test_unknown_key(tmp_path: Path) -> None:
    refused(tmp_path, "[target]\ntol_gea = 0.1", "target.tol_gea", "did you mean target.tol_geo?")


def test_negative_tolerance(tmp_path: Path) -> None:
    refused(tmp_path, "[target]\ntol_energy = -0.1", "target.tol_energy", "greater than 0")


def test_unknown_element(tmp_path: Path) -> None:
    refused(tmp_path, "[host]\nspecies = ['Xx']", "'Xx'", "use a symbol such as Cu")


def test_unknown_crystal(tmp_path: Path) -> None:
    refused(tmp_path, "[host]\nlattice = 'hpc'", "'hpc'", "use one of fcc")


def test_element_that_the_oracle_does_not_know(tmp_path: Path) -> None:
    refused(tmp_path, "[host]\nspecies = ['W']\nlattice = 'bcc'", "emt has no parameters for W")


def test_charged_defect(tmp_path: Path) -> None:
    refused(tmp_path, "[defect]\ncharge = -1", "charged defects are not treated", "set charge = 0")


@pytest.mark.parametrize("verb", ["run", "plan", "status", "stop", "report", "export", "verify"])
def test_missing_file(tmp_path: Path, verb: str) -> None:
    refused(tmp_path, None, "no campaign file c.toml", "farfield init", verb=verb)


def test_oracle_that_cannot_be_imported(tmp_path: Path) -> None:
    refused(tmp_path, "[oracle]\nname = 'no_such_package:Oracle'", "no_such_package", "cannot be imported")


def test_unknown_oracle(tmp_path: Path) -> None:
    refused(tmp_path, "[oracle]\nname = 'emr'", "did you mean 'emt'")


def test_target_below_the_ladder(tmp_path: Path) -> None:
    refused(tmp_path, "[target]\nsize = 2", "target.size", "use at least")


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the run folder should be", encoding="utf-8")
    refused(tmp_path, "", "out", "check the path")


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "nonsense"])
def test_scheduler_address_that_is_not_allowed(tmp_path: Path, address: str) -> None:
    refused(tmp_path, f"[cluster]\nscheduler = '{address}'", address)


@pytest.mark.parametrize("verb", ["run", "status", "stop", "verify"])
def test_database_of_a_newer_schema_is_left_alone(tmp_path: Path, verb: str) -> None:
    (tmp_path / "c.toml").write_text(CAMPAIGN, encoding="utf-8")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "campaign.db"
    from farfield.db.engine import open_database

    open_database(f"sqlite:///{path}", create=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    done = farfield(verb, "c.toml", cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("farfield: ")
    assert done.err.count("\n") == 1
    assert "9999" in done.err
    assert "pip install --upgrade" in done.err
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_a_campaign_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CAMPAIGN, encoding="utf-8")
    done = farfield("status", "c.toml", cwd=tmp_path)
    assert done.code == 2
    assert "farfield run" in done.err


def test_init_does_not_overwrite(tmp_path: Path) -> None:
    assert farfield("init", "c.toml", cwd=tmp_path).code == 0
    done = farfield("init", "c.toml", "--size", "9", cwd=tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--force" in done.err
    assert farfield("init", "c.toml", "--size", "9", "--force", cwd=tmp_path).code == 0
    assert "size = 9" in (tmp_path / "c.toml").read_text(encoding="utf-8")


def test_help_needs_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom farfield.service.cli.app import app\n"
        "heavy = {'ase', 'scipy', 'numba', 'distributed', 'sqlalchemy', 'matplotlib', 'pydantic', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("constant", [0.361, 25.0])
def test_a_lattice_constant_in_another_unit_is_refused(tmp_path: Path, constant: float) -> None:
    refused(
        tmp_path, f"[host]\nlattice_constant = {constant}\n", "host.lattice_constant", "a bond of Cu", "give it in Å"
    )


def test_a_regressor_without_coefficients_for_each_column_is_refused_before_anything_is_bought(tmp_path: Path) -> None:
    for name in ("sklearn.linear_model.LogisticRegression", "sklearn.linear_model.SGDClassifier"):
        refused(tmp_path, f'[surrogate]\nregressor = "{name}"\n', "surrogate.regressor", name)


def test_levels_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    refused(tmp_path, "[surrogate]\nlevel = 4\nmax_level = 3\n", "max_level 3 is below surrogate.level 4")


def test_an_unknown_key_is_not_taken_for_one_of_another_kind(tmp_path: Path) -> None:
    refused(tmp_path, "[goal]\nx = 1\n", "unknown key goal", "known are")


def test_one_species_may_be_given_without_a_list(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CAMPAIGN + '[host]\nspecies = "Ni"\n', encoding="utf-8")
    assert farfield("plan", "c.toml", cwd=tmp_path).code == 0


def test_a_reader_that_leaves_early_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CAMPAIGN, encoding="utf-8")
    command = f"{sys.executable} -m farfield plan c.toml --json | head -c 1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


def test_an_oracle_of_no_package_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    done = farfield("init", "c.toml", "--oracle", "espreso", cwd=tmp_path)
    assert (done.code, done.err) == (
        2,
        "farfield: there is no oracle 'espreso'; did you mean 'espresso', or one of your own as "
        "'package.module:Class'\n",
    )
    assert not (tmp_path / "c.toml").exists()


def test_a_second_start_is_refused_before_a_cluster_is_asked_for(tmp_path: Path) -> None:
    """A batch system would have taken all its jobs by then; here nobody answers at the scheduler's address."""
    file = tmp_path / "c.toml"
    file.write_text(CAMPAIGN + '[cluster]\nscheduler = "tcp://127.0.0.1:1"\n', encoding="utf-8")
    config = CampaignConfig.load(file)
    config.folder.mkdir()
    with open_database(config.database_url, create=True) as database, Session(Claims(database)) as session:
        record, oracle = Record(database), registry.load(config.oracle.name)
        campaign = record.create_campaign("c", json.loads(config.to_json()), oracle.fingerprint())
        assert record.lease_campaign(campaign, session.id) is None
        done = farfield("run", "c.toml", cwd=tmp_path)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"already run by process {os.getpid()}" in done.err
        assert "farfield stop" in done.err
    done = farfield("run", "c.toml", cwd=tmp_path)
    assert "no Dask scheduler answers" in done.err


@pytest.mark.parametrize(("fault", "code"), [(CampaignInterrupted, 1), (CampaignError, 2)])
def test_the_exit_code_tells_a_campaign_that_cannot_go_on_from_one_that_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[CampaignError], code: int
) -> None:
    def run(_: Runner) -> None:
        raise fault("the reason")

    monkeypatch.setattr(Runner, "run", run)
    (tmp_path / "c.toml").write_text(CAMPAIGN, encoding="utf-8")
    done = farfield("run", "c.toml", cwd=tmp_path)
    assert (done.code, done.err) == (code, "farfield: the reason\n")
