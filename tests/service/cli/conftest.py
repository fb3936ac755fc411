"""A database with imported labels, and the command line in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from farfield.service.cli.app import app

TEXT = """
[campaign]
name = "cu"
[host]
lattice_constant = 3.59
[run]
folder = "out"
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def called(*words: str) -> Done:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def farfield(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Done]:
    """`farfield WORDS` as a person in the temporary folder would call it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FARFIELD_DATABASE", raising=False)
    return called


def labelled(count: int, shift: float = 0.0) -> list:
    out = []
    for i in range(count):
        atoms = bulk("Cu", cubic=True) * (1, 1, 1 + i % 2)
        atoms.rattle(0.02 * (1 + i % 4), seed=i)
        mine = atoms.copy()
        mine.calc = EMT()
        results = {
            "energy": mine.get_potential_energy() + shift,
            "forces": mine.get_forces(),
            "stress": mine.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a campaign file, and 12 labels of others in its database; to be copied."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "campaign.toml").write_text(TEXT)
    write(folder / "theirs.xyz", labelled(12))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FARFIELD_DATABASE", raising=False)
        done = called("import", "theirs.xyz")
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def shelf(imported: Path, farfield, tmp_path: Path) -> Path:
    """A copy of it, in which one works."""
    shutil.copytree(imported, tmp_path, dirs_exist_ok=True)
    return tmp_path
