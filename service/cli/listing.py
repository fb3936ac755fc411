"""`farfield ls`, `show` and `summary`: look into the database with the query language."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farfield.service.cli.where import DatabaseOption, FileOption, open_record

if TYPE_CHECKING:
    from farfield.db.query import Scalars, Selected

__all__ = ["ls", "show", "summary"]

QueryArgument = Annotated[str, typer.Argument(help="A query, such as 'kind=FC and natoms<200'; see --fields.")]
DoubtedOption = Annotated[bool, typer.Option("--doubted", help="Also what a campaign withdrew or has in doubt.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, a line for each.")]


COLUMNS = ("id", "key", "formula", "labels", "E, eV", "max F, eV/Å", "V, eV", "core-s", "campaign", "decision", "role",
           "cell", "came")  # fmt: skip
WIDE = 130
"""Characters from which on a terminal has room for every column."""


def ls(
    query: QueryArgument = "",
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Rows at most; 0 for all.")] = 50,
    after: Annotated[int, typer.Option("--after", help="Go on after this id.")] = 0,
    count: Annotated[bool, typer.Option("--count", help="Print how many there are, and nothing else.")] = False,
    doubted: DoubtedOption = False,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    fields: Annotated[bool, typer.Option("--fields", help="Explain the fields and the language, and end.")] = False,
) -> None:
    """List calculations that fit a query, labelled or not, in the order in which they came."""
    if fields:
        _explain()
        return
    from farfield.db.query import Scalars, select

    with open_record(file, database) as record:
        chosen = select(record, query, labelled=False, doubted=doubted)
        if count:
            print(json.dumps({"count": chosen.count()}) if as_json else chosen.count())
            return
        table = not as_json and not as_csv
        rows = _rows(chosen, after, limit + 1 if table and limit else limit)  # one more tells whether there is more
        if as_json:
            for row in rows:
                print(json.dumps(row.to_json()))
        elif as_csv:
            out = csv.DictWriter(sys.stdout, list(Scalars.__dataclass_fields__), lineterminator="\n")
            out.writeheader()
            for row in rows:
                out.writerow(row.to_json())
        else:
            _table(rows, limit)


def _rows(chosen: Selected, after: int, limit: int) -> Iterator[Scalars]:
    """At most `limit` rows, a page at a time."""
    left = limit
    while not limit or left > 0:
        size = 500 if not limit else min(500, left)
        page = chosen.page(after, size)
        yield from page
        if len(page) < size:
            return
        left, after = left - len(page), page[-1].id


def _table(rows: Iterator[Scalars], limit: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=220)  # a file has room
    wide = console.width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = [n for n in COLUMNS if wide or n not in ("V, eV", "core-s", "came")]
    for name in columns:
        right = name in ("id", "E, eV", "max F, eV/Å", "V, eV", "core-s", "decision")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    last, shown, more = 0, 0, False
    for row in rows:
        if more := bool(limit) and shown == limit:
            break
        last, shown = row.id, shown + 1
        cells = (
            str(row.id),
            row.key[:10],
            row.formula,
            row.kinds or (row.state if row.failure is None else f"failed: {row.failure}"),
            *(_number(x) for x in (row.energy, row.fmax, row.virial, row.core_seconds)),
            row.campaign or "",
            "" if row.decision is None else f"{row.decision}/{row.ordinal}",
            row.role or "",
            "" if row.n1 is None else f"{row.n1}x{row.n2}x{row.n3}",
            "" if row.time is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(row.time)),
        )
        table.add_row(*(cell for name, cell in zip(COLUMNS, cells, strict=True) if name in columns))
    if not shown:
        console.print("nothing fits; `farfield summary` shows what there is")
        return
    console.print(table)
    if more:
        console.print(f"the first {shown} of more: go on with --after {last}, or see --count", highlight=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < 1e5 else f"{value:.6g}"


def _explain() -> None:
    from farfield.db.query.fields import FIELDS
    from farfield.db.query.grammar import __doc__ as language

    print((language or "").split("\n\n", 1)[1].strip() + "\n")
    width = max(map(len, FIELDS))
    for field in FIELDS.values():
        print(f"  {field.name:<{width}}  {field.meaning}" + (" (yes or no)" if field.kind == "flag" else ""))
    print(f"  {'Cu, Si, ...':<{width}}  number of such atoms")


def show(
    key: Annotated[str, typer.Argument(metavar="ID", help="Row id, or the beginning of a calculation's key.")],
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one calculation: structure, labels, every attempt, who asked for it and why."""
    from farfield.db.query.details import details

    with open_record(file, database) as record:
        found = details(record, key)
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console

    console = Console()
    for name, value in found.items():
        if isinstance(value, list) and (not value or isinstance(value[0], dict)):
            console.print(f"{name}:" if value else f"{name}: none", highlight=False, markup=False)
            for item in value:
                text = ", ".join(f"{k} {_shown(v)}" for k, v in item.items() if v not in (None, "", {}))
                console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
        else:
            console.print(f"{name}: {_shown(value)}", highlight=False, markup=False, soft_wrap=True)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def summary(
    query: QueryArgument = "",
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    doubted: DoubtedOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is there: which fields have values, their ranges, and histograms."""
    from farfield.db.query import select
    from farfield.db.query.discovery import discover

    with open_record(file, database) as record:
        found = discover(select(record, query, labelled=False, doubted=doubted).scalars())
    if as_json:
        print(json.dumps(found.to_json()))
        return
    from rich.console import Console

    console = Console()
    if not found.count:
        console.print("nothing fits")
        return
    console.print(f"{found.count} calculations", highlight=False)
    for name, words in found.words.items():
        held = ", ".join(f"{word} {n}" for word, n in words.most_common(12))
        more = f", and {len(words) - 12} more" if len(words) > 12 else ""
        console.print(f"{name:<16}{held}{more}", highlight=False, markup=False, soft_wrap=True)
    for name, numbers in found.numbers.items():
        least, most = numbers.least, numbers.most
        console.print(
            f"{name:<16}{numbers.bars()}  {least:.6g} to {most:.6g}, mean {numbers.mean:.6g} {numbers.unit}"
            f"  ({numbers.count})".rstrip(),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
