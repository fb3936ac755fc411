"""The run that the README shows: its picture and its words, made from the example campaign.

    python benchmarks/readme_run.py

Runs and verifies examples/cu-vacancy.toml in a fresh folder; writes docs/cu-vacancy.png and docs/cu-vacancy.txt.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from farfield.db.engine import open_database
from farfield.service.report import FIGURES, load

ROOT = Path(__file__).parents[1]


def farfield(*words: str) -> str:
    """What the command prints, on a terminal of 120 columns."""
    command = [sys.executable, "-m", "farfield", *words]
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def main() -> None:
    text = (ROOT / "examples" / "cu-vacancy.toml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cu-vacancy.toml"
        file.write_text(text.replace("../runs/cu-vacancy", "run"), encoding="utf-8")
        words = ["$ farfield run cu-vacancy.toml", farfield("run", str(file))]
        words += ["$ farfield verify cu-vacancy.toml", farfield("verify", str(file), "--yes")]
        with open_database(f"sqlite:///{folder}/run/campaign.db", readonly=True) as database:
            figure = FIGURES["error"][0](load(database, "cu-vacancy"))
        figure.savefig(ROOT / "docs" / "cu-vacancy.png", dpi=160, bbox_inches="tight")
        said = "\n".join(words).replace(folder + "/", "")
        (ROOT / "docs" / "cu-vacancy.txt").write_text(said, encoding="utf-8")
        print(said)


if __name__ == "__main__":
    main()
