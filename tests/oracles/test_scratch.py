"""What stays of a call's files and output, through the sandbox and against the limits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pair_program
import pytest
from ase import Atoms
from ase.build import bulk

from farfield.errors import OracleCrash, OracleError
from farfield.oracles import scratch
from farfield.oracles.sandbox import Sandbox
from farfield.oracles.scratch import Scratch

HERE = Path(__file__).parent


def cell(height: float = 0.0) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.positions[:, 2] += height
    return atoms


@pytest.fixture
def writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.syspath_prepend(str(HERE))
    with Sandbox("misbehaving:Writing", {}, 20, 2000, tmp_path) as sandbox:
        yield sandbox


def test_a_success_leaves_its_output_alone(writing: Sandbox, tmp_path: Path) -> None:
    writing.evaluate(cell(), ("E",), call="abc-1")
    writing.evaluate(cell(0.5), ("E",), call="abd-2")
    assert not list(tmp_path.rglob("density.dat"))
    logs = sorted((tmp_path / "output").iterdir())
    assert [p.name for p in logs] == ["abc-1.log", "abd-2.log"]
    assert [p.read_text() for p in logs] == ["wrote the density\n"] * 2  # each its own, not the other's


def test_a_failure_leaves_its_files_and_output_under_its_name(writing: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(OracleError) as fault:
        writing.evaluate(cell(2.0), ("E",), call="abc-1")
    folder = tmp_path / "failed" / "abc-1"
    assert fault.value.kept == str(folder)
    assert {p.name for p in folder.iterdir()} == {"density.dat", "output.log"}
    assert (folder / "output.log").read_text() == "wrote the density\n"
    writing.evaluate(cell(), ("E",), call="abc-2")
    writing.close()
    assert {p.name for p in tmp_path.iterdir()} == {"failed", "output"}


def test_a_failed_gate_is_a_failure(writing: Sandbox, tmp_path: Path) -> None:
    writing.parameters = {}
    with Sandbox("misbehaving:Answering", {"fault": "nan forces"}, 20, 2000, tmp_path) as sandbox:
        with pytest.raises(OracleError) as fault:
            sandbox.evaluate(cell(), ("E", "F"), call="nan-1", gated=True)
        assert fault.value.kept is None  # it wrote and printed nothing: there is nothing to keep
        assert not (tmp_path / "failed").exists()


def test_nothing_is_kept_without_a_folder_to_keep_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    with Sandbox("misbehaving:Writing", {}, 20, 2000) as sandbox:
        with pytest.raises(OracleError) as fault:
            sandbox.evaluate(cell(2.0), ("E",))
        assert fault.value.kept is None
        assert list(sandbox._folder.iterdir()) == []


def test_a_program_s_last_words_and_files_stay_with_its_failed_call(tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(pair_program.__file__), "exit", "{input}", "{output}", "{natoms}"]
    parameters = {"command": command, "version": "1", "analytic": True}
    with (
        Sandbox("command", parameters, 20, 2000, tmp_path) as sandbox,
        pytest.raises(OracleCrash, match="exit code 9; it said: no licence") as fault,
    ):
        sandbox.evaluate(cell(), ("E",), call="f-1")
    assert fault.value.exitcode == 9
    folder = tmp_path / "failed" / "f-1"
    assert {p.name for p in folder.iterdir()} == {"input.xyz", "output.log"}
    assert (folder / "output.log").read_text() == "working on 4 atoms\nno licence\n"


def fail(keeper: Scratch, root: Path, call: str, sizes: dict[str, int]) -> None:
    work = root / "work"
    work.mkdir()
    for name, size in sizes.items():
        (work / name).write_bytes(bytes(size))
    keeper.failed(call, work)
    assert not work.exists()


def test_the_newest_failures_are_kept_up_to_their_number_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "KEPT_FOLDERS", 3)
    monkeypatch.setattr(scratch, "KEPT_BYTES", 10_000)
    keeper = Scratch(tmp_path, tmp_path / "log")
    for k in range(5):
        fail(keeper, tmp_path, f"call-{k}", {"a": 100})
    kept = tmp_path / "failed"
    assert {p.name for p in kept.iterdir()} == {"call-2", "call-3", "call-4"}
    fail(keeper, tmp_path, "large", {"a": 9_950})
    assert {p.name for p in kept.iterdir()} == {"large"}
    fail(keeper, tmp_path, "huge", {"wave": 20_000, "input": 50, "log": 3_000})
    assert {p.name: {f.name for f in p.iterdir()} for p in kept.iterdir()} == {"huge": {"input", "log", "output.log"}}


def test_logs_are_kept_up_to_a_number_and_a_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "KEPT_LOGS", 2)
    log = tmp_path / "log"
    keeper = Scratch(tmp_path, log)
    for k in range(3):
        keeper.begin()
        log.write_bytes(b"x" * 100_000 + b"the end")
        keeper.finished(f"call-{k}", tmp_path / "none")
    kept = sorted((tmp_path / "output").iterdir())
    assert [p.name for p in kept] == ["call-1.log", "call-2.log"]
    assert all(p.stat().st_size == scratch.LOG_BYTES and p.read_bytes().endswith(b"the end") for p in kept)
