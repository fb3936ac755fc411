"""The rules of the house: which way imports run, how long files are, what `import farfield` loads (design.md, B1)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import farfield

ROOT = Path(__file__).parents[1]
BELOW = {
    "errors": set[str](),
    "oracles": {"errors", "oracles"},
    "db": {"errors", "oracles", "db"},
    "cells": {"errors", "oracles", "cells"},
    "surrogate": {"errors", "oracles", "cells", "surrogate"},
    "estimates": {"errors", "oracles", "cells", "surrogate", "estimates"},
    "proposals": {"errors", "oracles", "cells", "surrogate", "estimates", "proposals"},
    "campaign": {"errors", "oracles", "cells", "surrogate", "estimates", "proposals", "campaign"},
    "runner": {"errors", "oracles", "db", "cells", "surrogate", "estimates", "proposals", "campaign", "runner"},
    "report": {"errors", "oracles", "db", "cells", "surrogate", "estimates", "report"},
}
"""What each room may import. The command line may import everything below it; nothing imports the command line."""
BELOW["cli"] = {*BELOW["runner"], "report", "cli"}

IMPURE = {"dask", "distributed", "sqlalchemy", "time", "os", "pathlib", "socket", "subprocess", "threading", "datetime"}
"""What the pure rooms never import: no Dask, no database, no files, no clock."""
PURE = ("cells", "estimates", "proposals", "campaign")


def sources() -> Iterator[Path]:
    for top in ("oracles", "db", "service"):
        yield from sorted((ROOT / top).rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "service" and len(parts) > 2 else parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def test_imports_run_one_way() -> None:
    wrong = []
    for path in sources():
        here = room(path)
        for name in imports(path):
            parts = name.split(".")
            if parts[0] in ("service", "db", "oracles"):
                wrong.append(f"{path}: import {name} (say farfield.{name})")
            if parts[0] != "farfield" or len(parts) == 1:
                continue
            there = parts[2] if parts[1] == "service" and len(parts) > 2 else parts[1]
            if there != here and here in BELOW and there not in BELOW[here]:
                wrong.append(f"{path.relative_to(ROOT)}: {here} imports {name}")
    assert wrong == []


def test_the_loop_is_pure() -> None:
    allowed = {ROOT / f"service/campaign/{name}.py" for name in ("config", "structures")}  # read what the user wrote
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources()
        if room(path) in PURE and path not in allowed
        for name in imports(path)
        if name.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_files_are_short_nouns() -> None:
    for path in sources():
        assert path.stem not in ("utils", "helpers", "common", "misc"), path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path


def test_no_pickle_crosses_a_boundary() -> None:
    wrong = [
        str(path) for path in sources() for name in imports(path) if name.split(".")[0] in ("pickle", "joblib", "dill")
    ]
    assert wrong == []


def test_public_names_exist() -> None:
    import importlib

    for path in sources():
        if "migrations" in path.parts:
            continue
        name = "farfield." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(name.removesuffix(".__init__"))
        for public in getattr(module, "__all__", []):
            assert hasattr(module, public), f"{name}.{public}"


@pytest.mark.parametrize("line", ["import farfield", "import farfield.errors", "import farfield.service.cli"])
def test_import_is_lazy(line: str) -> None:
    heavy = "{'ase', 'scipy', 'numba', 'distributed', 'sqlalchemy'}"
    code = f"import sys; {line}; print(sorted(set(sys.modules) & {heavy}))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"


@pytest.mark.parametrize("package", ["estimates", "surrogate", "cells"])
def test_every_name_of_a_package_is_there(package: str) -> None:
    """Also where it is imported on first use."""
    room = import_module(f"farfield.service.{package}")
    assert [name for name in room.__all__ if getattr(room, name) is None] == []


def test_a_status_needs_no_linear_algebra() -> None:
    code = "import sys; from farfield.service.estimates import Estimate; print('scipy' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "False"


def test_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert version("farfield") == farfield.__version__
