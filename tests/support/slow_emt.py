"""EMT that takes its time, as an oracle of real `farfield run` processes, and the campaign file that names it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations


class SlowEMT(EMTOracle):
    """EMT's answer after `seconds`; how long it takes is no part of what it is."""

    name = "slow emt"

    def __init__(self, seconds: float = 0.3) -> None:
        super().__init__()
        self.seconds = seconds

    def fingerprint(self) -> Mapping[str, Any]:
        """That of EMT under another adapter's name."""
        return {**super().fingerprint(), "adapter": "slow emt"}

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """EMT's answer, later."""
        time.sleep(self.seconds)
        return super().evaluate(atoms, kinds)


def campaign_file(folder: Path, name: str, *, seconds: float = 0.3, url: str | None = None, more: str = "") -> Path:
    """A campaign of 22 calls in `folder`, in the database at `url` or one of its own; `more` goes at the end."""
    text = f"""
[campaign]
name = "{name}"
[host]
lattice_constant = 3.59
[target]
size = 5
tol_geo = 0.2
tol_energy = 0.05
[oracle]
name = "slow_emt:SlowEMT"
parameters = {{ seconds = {seconds} }}
[run]
folder = "{name}"
"""
    if url is not None:
        text += f'[database]\nurl = "{url}"\n'
    path = folder / f"{name}.toml"
    path.write_text(text + more, encoding="utf-8")
    return path


def started(file: Path, *options: str) -> subprocess.Popen[bytes]:
    """`farfield run` of `file` in a process group of its own; what it prints goes to `<name>.txt` beside the file."""
    path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    environment.pop("FARFIELD_DATABASE", None)
    with file.with_suffix(".txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "farfield", "run", file.name, *options],
            cwd=file.parent,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
