"""The database measured: against ase.db and the bare drivers at 20 000 cells, and at a million of them.

    python benchmarks/store              a few minutes; writes runs/store/quick.json and docs/store.md
    python benchmarks/store --million    half an hour, 15 GB; writes runs/store/million.json and docs/store.md; the
                                         same command goes on where it was cut off
    python benchmarks/store --page       docs/store.md from what has been measured

Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from breakdown import breakdown
from insertion import ase_bulk, bulk, commits, drain, floor_atoms, selection
from million import answers, fill, imports, shell, status
from page import page
from readers import latencies
from server import server
from workload import PAYLOAD, frames, fresh, source

import farfield
from farfield.db.engine import open_database

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "store"
BIG = 1_000_000
NOTES = Path(__file__).with_name("notes.md")
"""What the page says beside the figures."""


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--size", type=int, default=BIG, help="frames of --million")
    parser.add_argument("--page", action="store_true")
    chosen = parser.parse_args()
    scratch = RUNS / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        if chosen.million:
            large(RUNS / "million", chosen.size)
        elif not chosen.page:
            _save("quick", quick(scratch, chosen.frames))
    finally:
        shutil.rmtree(scratch)
    text, missed = page(_load("quick"), _load("million"), NOTES.read_text())
    (ROOT / "docs" / "store.md").write_text(text)
    print(text)
    for line in missed:
        _say(f"MISSED: {line.what}: {line.measured}")
    return 1 if missed else 0


def quick(folder: Path, count: int) -> dict[str, Any]:
    """Insertion, reading, size and a reader beside a writer."""
    out: dict[str, Any] = {"frames": count, **_here()}
    _say(f"bulk insertion of {count} frames, twice, and the driver alone")
    out["sqlite"] = bulk(folder, None, count)
    with server(folder) as url:
        if url is not None:
            out["postgresql"] = bulk(folder, url, count)
    _say("ase.db")
    out["ase"] = ase_bulk(folder / "peer.db", count)
    _say("reading")
    with open_database(f"sqlite:///{fresh(folder)}", create=True) as database:
        row = source(database)
        drain(database, row, list(frames(count)))
        out["reading"] = {**selection(database, folder / "peer.db"), "floor": floor_atoms()}
        path = Path(database.path)
    out["size"] = breakdown(path, count)
    _say("a transaction each")
    out["commits"] = commits(folder, 1000)
    _say("a reader beside a writer")
    out["reader"] = latencies(folder)
    return out


def large(folder: Path, count: int) -> None:
    """A database of `count` frames on both back ends; removed once all is measured. What was measured is kept."""
    folder.mkdir(exist_ok=True)
    out: dict[str, Any] = _load("million") or {}
    if out.get("frames") != count:
        out = {"frames": count, **_here()}
    _measure(out, "sqlite", f"sqlite:///{folder / 'million.db'}", folder)
    with server(folder, keep=True) as url:
        if url is not None:
            _measure(out, "postgresql", url, folder)
    shutil.rmtree(folder)


def _measure(out: dict[str, Any], name: str, url: str, folder: Path) -> None:
    """Everything on one back end that `out` does not hold yet, saved step by step."""
    count, kept = out["frames"], out.setdefault(name, {})
    runs = kept.setdefault("shell", {})

    def step(into: dict[str, Any], key: str, work: Callable[[], Any]) -> None:
        if key not in into:
            _say(f"{name}: {key}")
            into[key] = work()
            _save("million", out)

    def filled() -> float:
        with open_database(url, create=True) as database:
            return fill(database, count, _say)

    step(kept, "fill", filled)
    step(kept, "answers", lambda: answers(url))
    step(kept, "status", lambda: status(url))
    step(runs, "imports", lambda: (imports(), 0.0))
    step(runs, "status", lambda: shell(url, "status", "--campaign", "million", "--json", repeats=3))
    step(runs, "ls", lambda: shell(url, "ls", "energy>4.2", "--json", repeats=3))
    for some in (count // 100, count // 10):
        freeze = ("dataset", "freeze", f"d{some}", "--where", f"id<={some}")
        step(runs, f"freeze {some}", lambda freeze=freeze: shell(url, *freeze))
        for suffix in ("npz", "xyz"):
            target = folder / f"out.{suffix}"
            words = ("export", "--dataset", f"d{some}", "--output", str(target))
            step(runs, f"export {suffix} {some}", lambda words=words: shell(url, *words))
            target.unlink(missing_ok=True)


def _here() -> dict[str, Any]:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"version": farfield.__version__, "machine": machine, "payload": PAYLOAD}


def _save(name: str, content: dict[str, Any]) -> None:
    (RUNS / f"{name}.json").write_text(json.dumps(content, indent=1))


def _load(name: str) -> dict[str, Any] | None:
    path = RUNS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
