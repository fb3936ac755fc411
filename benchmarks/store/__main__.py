"""The database measured: against ase.db and the bare drivers at 20 000 cells, and at a million of them.

    python benchmarks/store              a few minutes; writes runs/store/quick.json and docs/store.md
    python benchmarks/store --million    half an hour, 15 GB; writes runs/store/million.json and docs/store.md
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
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from breakdown import breakdown
from insertion import ase_bulk, bulk, commits, drain, floor_atoms, selection
from million import answers, fill, shell
from page import page
from readers import latencies
from server import server
from workload import frames, fresh, source

from farfield.db.engine import open_database

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "store"
BIG = 1_000_000


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--size", type=int, default=BIG, help="frames of --million")
    parser.add_argument("--page", action="store_true")
    chosen = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    scratch = RUNS / "scratch"
    scratch.mkdir(exist_ok=True)
    try:
        if chosen.million:
            _save("million", large(scratch, chosen.size))
        elif not chosen.page:
            _save("quick", quick(scratch, chosen.frames))
    finally:
        shutil.rmtree(scratch)
    text, missed = page(*(_load(name) for name in ("quick", "million")))
    (ROOT / "docs" / "store.md").write_text(text)
    print(text)
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


def large(folder: Path, count: int) -> dict[str, Any]:
    """A database of `count` frames on both back ends."""
    out: dict[str, Any] = {"frames": count, **_here()}
    with server(folder) as url:
        for name, place in (("sqlite", f"sqlite:///{fresh(folder)}"), ("postgresql", url)):
            if place is None:
                continue
            out[name] = kept = {}
            _say(f"{name}: {count} frames")
            with open_database(place, create=True) as database:
                kept["fill"] = fill(database, count, _say)
            _say("queries")
            kept["answers"] = answers(place)
            _say("the program")
            kept["farfield status"] = shell(place, "status", "--campaign", "million", "--json")
            kept["farfield ls"] = shell(place, "ls", "energy>4.2", "--json")
            _save("million", out)
            for some in (count // 100, count // 10):
                _say(f"{some} frozen and exported")
                where = f"id<={some}"
                kept[f"freeze {some}"] = shell(place, "dataset", "freeze", f"d{some}", "--where", where, once=True)
                for suffix in ("npz", "xyz"):
                    target = folder / f"out.{suffix}"
                    words = ("export", "--dataset", f"d{some}", "--output", str(target))
                    kept[f"export {suffix} {some}"] = shell(place, *words, once=True)
                    target.unlink()
            _save("million", out)
    return out


def _here() -> dict[str, Any]:
    return {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"}


def _save(name: str, content: dict[str, Any]) -> None:
    (RUNS / f"{name}.json").write_text(json.dumps(content, indent=1))


def _load(name: str) -> dict[str, Any] | None:
    path = RUNS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
