"""docs/store.md: what was measured, beside the bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

HEAD = ["| what | measured | bar | |", "|---|---|---|---|"]
OPENING = """# The database, measured

By `python benchmarks/store` and `python benchmarks/store --million` (farfield {version}; {machine}). Cells of 54 atoms
with energy, forces and virial: {payload:.0f} bytes. Peers and floors are measured in the same run on the same cells;
ratios carry over to other machines, times do not. SQLite's bulk insertion and reading are in CPU time of the process,
for the machine is shared; what waits for a disk or a server is in wall time.
"""


class Line(NamedTuple):
    """One line of a table: `met` is None where nothing is demanded."""

    what: str
    measured: str
    bar: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        verdict = "" if self.met is None else "met" if self.met else "MISSED"
        return f"| {self.what} | {self.measured} | {self.bar} | {verdict} |"


def page(quick: dict[str, Any] | None, million: dict[str, Any] | None, notes: str = "") -> tuple[str, list[Line]]:
    """The page and the lines whose bar is missed. Raises ValueError where nothing was measured."""
    first = quick or million
    if first is None:
        raise ValueError("nothing was measured yet; run `python benchmarks/store`")
    parts = [OPENING.format(**first)]
    lines: list[Line] = []
    if quick is not None:
        lines += (some := list(_quick(quick)))
        parts += [f"## Against ase.db, {quick['frames']} cells\n", *_table(some)]
        parts += ["### Bytes of the file, per cell\n", *_bytes(quick["size"])]
    if million is not None:
        lines += (some := list(_million(million)))
        parts += [f"## {million['frames']} cells\n", *_table(some)]
        parts += ["### First page of 50, milliseconds\n", QUERIES, *_queries(million)]
    if notes:
        parts.append(notes.strip() + "\n")
    return "\n".join(parts), [line for line in lines if line.met is False]


SCANS = {"not labelled"}
"""Queries for what lacks a row somewhere: all calculations are looked through, a million here."""
QUERIES = "In a process that has the database open: the first call, and the median of five later ones.\n"


def _table(lines: list[Line]) -> list[str]:
    return [*HEAD, *map(str, lines), ""]


def _quick(of: dict[str, Any]) -> Iterator[Line]:
    sqlite, ase, reading, commits = of["sqlite"], of["ase"], of["reading"], of["commits"]
    bulk = ase["ase"] / sqlite["farfield"]
    yield Line("bulk insertion, SQLite", f"{sqlite['farfield']:.0f} µs, {bulk:.0f}x ase.db", "30x", bulk >= 30)
    raw = sqlite["farfield"] / sqlite["raw"]
    yield Line(
        "... against sqlite3's executemany of the same rows into the same tables and indexes",
        f"{raw:.2f}x ({sqlite['raw']:.0f} µs)",
        "at most 3x",
        raw <= 3,
    )
    if "postgresql" in of:
        server = of["postgresql"]
        yield Line(
            "bulk insertion, PostgreSQL, against psycopg's executemany of the same rows",
            f"{server['farfield']:.0f} µs, {server['farfield'] / server['raw']:.2f}x ({server['raw']:.0f} µs)",
        )
    alone = f"; {commits['NORMAL'] / commits['raw']:.2f}x of the driver alone ({commits['raw'] / 1e3:.2f} ms)"
    for level, bar in (("NORMAL", 30), ("FULL", 5)):
        ratio = commits["ase"] / commits[level]
        yield Line(
            f"a transaction each, synchronous {level}",
            f"{commits[level] / 1e3:.2f} ms, {ratio:.1f}x ase.db" + (alone if level == "NORMAL" else ""),
            f"{bar}x",
            ratio >= bar,
        )
    ratio = reading["ase"] / reading["atoms"]
    floor = reading["atoms"] / reading["floor"]
    yield Line(
        "select to `Atoms` with a calculator",
        f"{reading['atoms']:.0f} µs, {ratio:.1f}x ase.db; {floor:.2f}x of making the `Atoms` from arrays in memory",
        "6x",
        ratio >= 6,
    )
    ratio = reading["ase"] / reading["arrays"]
    yield Line("select to arrays", f"{reading['arrays']:.1f} µs, {ratio:.0f}x ase.db", "50x", ratio >= 50)
    size = of["size"]
    ratio = size["file"] / size["payload"]
    yield Line(
        "file over payload", f"{ratio:.2f}x (ase.db {ase['bytes'] / size['payload']:.2f}x)", "1.4x", ratio <= 1.4
    )
    reader = of["reader"]
    yield Line(
        "a reader while another process commits without a pause",
        f"p50 {reader['median']:.1f} ms, p99 {reader['p99']:.1f} ms, worst {reader['worst']:.0f} ms "
        f"({reader['frames per second']:.0f} cells/s written)",
        "p99 20 ms",
        reader["p99"] < 20,
    )


def _bytes(size: dict[str, float]) -> list[str]:
    rows = [f"| {name} | {value:.0f} | {value / size['payload']:.2f} |" for name, value in size.items()]
    return ["| part | bytes | of the payload |", "|---|---|---|", *rows, ""]


def _million(of: dict[str, Any]) -> Iterator[Line]:
    for key, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL")):
        back = of.get(key, {})
        if "answers" in back:
            warm = {query: figures[1] for query, figures in back["answers"].items()}
            slowest = max(warm.keys() - SCANS, key=lambda query: warm[query])
            took = warm[slowest]
            yield Line(f"{name}: slowest first page, warm (`{slowest}`)", f"{1e3 * took:.0f} ms", "200 ms", took < 0.2)
            for query in SCANS:
                yield Line(
                    f"{name}: `{query}`, which no index answers, and nothing fits", f"{1e3 * warm[query]:.0f} ms"
                )
        if "status" in back:
            took = back["status"][1]
            yield Line(f"{name}: what a status reads, warm", f"{1e3 * took:.0f} ms", "200 ms", took < 0.2)
        shell = back.get("shell", {})
        if "status" in shell:
            took = shell["status"][0]
            floor = (
                f" ({took / shell['imports'][0]:.1f}x of importing numpy and SQLAlchemy)" if "imports" in shell else ""
            )
            yield Line(f"{name}: `farfield status` from the shell", f"{took:.2f} s{floor}", "1 s", took < 1)
        if "ls" in shell:
            yield Line(f"{name}: `farfield ls 'energy>4.2'` from the shell", f"{shell['ls'][0]:.2f} s")
        for verb in ("freeze", "export npz", "export xyz"):
            runs = sorted((int(w.rpartition(" ")[2]), figures) for w, figures in shell.items() if w.startswith(verb))
            if len(runs) == 2:
                (small, (_, low)), (large, (seconds, high)) = runs
                yield Line(
                    f"{name}: {verb} of {large} structures",
                    f"{seconds:.0f} s, peak {high:.0f} MB; {low:.0f} MB with {small}",
                    "flat: within 20 MB",
                    high - low < 20,
                )


def _queries(of: dict[str, Any]) -> list[str]:
    backs = [name for name in ("sqlite", "postgresql") if "answers" in of.get(name, {})]
    rows = [
        "| query | " + " | ".join(f"{name}, first | warm" for name in backs) + " |",
        "|---|" + "---|---|" * len(backs),
    ]
    for query in of[backs[0]]["answers"]:
        cells = " | ".join(f"{1e3 * took:.0f}" for name in backs for took in of[name]["answers"][query])
        rows.append(f"| `{query}` | {cells} |")
    return [*rows, ""]
