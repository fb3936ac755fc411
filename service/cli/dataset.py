"""`farfield dataset`: freeze labels under a name, list, compare and verify what is frozen."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from farfield.errors import RecordError
from farfield.service.cli.where import DatabaseOption, FileOption, open_record

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Frozen datasets: members and values pinned by hash.")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(help="Name of the dataset.")]


@app.command("freeze")
def freeze(
    name: NameArgument,
    where: Annotated[str, typer.Option("--where", help="A query; see `farfield ls --fields`.  [default: all]")] = "",
    split: Annotated[
        str | None, typer.Option("--split", help="Shares of parts, such as train=0.8,validation=0.1,test=0.1.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split.")] = 0,
    doubted: Annotated[bool, typer.Option("--doubted", help="Also labels in doubt.")] = False,
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pin the labels that fit a query now, under a name and for good.

    A split keeps every structure family, the rattles, strains and relaxations of one cell, on one side.
    """
    from farfield.db.datasets import freeze as freeze_labels
    from farfield.service.cli.counter import counter

    with open_record(file, database, readonly=False) as record, counter("frozen", as_json) as progress:
        done = freeze_labels(record, name, where, split=_parts(split), seed=seed, doubted=doubted, progress=progress)
    if as_json:
        print(json.dumps({"name": done.name, "members": done.members, "digest": done.digest, **done.content}))
        return
    print(f"{done.name}: {done.members} structures, digest {done.digest[:16]}")
    for part, count in done.parts.items():
        print(f"  {part}: {count}")


def _parts(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        pairs = [item.split("=") for item in text.split(",")]
        parts = {name.strip(): float(share) for name, share in pairs}
        if len(parts) < len(pairs) or not all(parts):
            raise ValueError
        return parts
    except ValueError:
        raise RecordError(f"--split {text} is no list of shares; write it as train=0.8,test=0.2") from None


@app.command("list")
def listed(
    file: FileOption = Path("campaign.toml"), database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """List the frozen datasets."""
    from farfield.db.datasets import datasets

    with open_record(file, database) as record:
        every = datasets(record)
    if as_json:
        print(json.dumps([{"name": d.name, "members": d.members, "digest": d.digest, "query": d.query,
                           "created": d.created, **d.content} for d in every]))  # fmt: skip
        return
    for d in every:
        parts = "".join(f", {name} {n}" for name, n in d.parts.items())
        when = time.strftime("%Y-%m-%d", time.localtime(d.created))
        print(f"{d.name}: {d.members} structures{parts}; {when}, digest {d.digest[:16]}; {d.query or 'everything'}")
    if not every:
        print("no dataset yet; freeze one with `farfield dataset freeze NAME --where QUERY`")


@app.command("diff")
def diff(
    first: NameArgument,
    second: Annotated[str, typer.Argument(help="Name of the other.")],
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two datasets. Exit code 1 where they differ."""
    from farfield.db.datasets import difference

    with open_record(file, database) as record:
        found = difference(record, first, second)
    parts = {"removed": found.removed, "added": found.added, "changed": found.changed}
    if as_json:
        print(json.dumps(parts))
    else:
        for sign, keys in zip("-+~", parts.values(), strict=True):
            for key in keys:
                print(f"{sign} {key}")
        print(", ".join(f"{len(keys)} {name}" for name, keys in parts.items()))
    if any(parts.values()):
        raise typer.Exit(1)


@app.command("verify")
def verify(
    name: NameArgument,
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every structure and label with what was pinned. Exit code 1 where one has changed."""
    from farfield.db.datasets import find
    from farfield.db.datasets import verify as verify_labels

    with open_record(file, database) as record:
        count = find(record, name).members
        faults = verify_labels(record, name)
    if as_json:
        print(json.dumps({"name": name, "members": count, "faults": faults}))
    else:
        for fault in faults:
            print(fault)
        print(f"{name}: {count} structures, " + (f"{len(faults)} faults" if faults else "all as they were frozen"))
    if faults:
        raise typer.Exit(1)
