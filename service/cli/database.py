"""`farfield db`: check, copy, upgrade and describe a database."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from farfield.service.cli.where import open_record, url_of

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Care of a database: check, copy, upgrade, info.")
UrlArgument = Annotated[
    str | None, typer.Argument(metavar="DATABASE", help="URL or SQLite file.  [default: that of campaign.toml]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CAMPAIGN = Path("campaign.toml")


@contextmanager
def _heard(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """A line on the terminal with the table at hand and its rows so far."""
    if quiet or not sys.stderr.isatty():
        yield lambda table, rows: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as line:
        yield lambda table, rows: line.update(f"{table}: {rows} rows")


@app.command("check")
def check(database: UrlArgument = None, as_json: JsonOption = False) -> None:
    """Look at every row: hashes of blobs, keys, values, references, datasets. Exit code 1 where something is wrong."""
    from farfield.db.maintenance import check as look

    with open_record(CAMPAIGN, database) as record, _heard(as_json) as progress:
        found = look(record, progress)
    if as_json:
        print(json.dumps(vars(found)))
    else:
        for fault in found.faults:
            print(fault)
        if found.count > len(found.faults):
            print(f"and {found.count - len(found.faults)} more")
        print(", ".join(f"{n} {table}" for table, n in found.rows.items()) + " rows looked at")
        if found.orphans:
            print(f"{found.orphans} blobs ({found.orphan_bytes / 1e6:.2f} MB) belong to nothing, which does no harm")
        print(f"{found.count} faults" if found.count else "sound")
    if found.count:
        raise typer.Exit(1)


@app.command("copy")
def copy(
    origin: Annotated[str, typer.Argument(metavar="FROM", help="URL or SQLite file.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL or SQLite file that is not there yet.")],
    as_json: JsonOption = False,
) -> None:
    """Copy a database, also from SQLite to PostgreSQL and back. It is compared at the end, and goes on after a kill."""
    from farfield.db.maintenance import copy as copy_rows

    with open_record(CAMPAIGN, origin) as record, _heard(as_json) as progress:
        done = copy_rows(record, url_of(target), progress)
    if as_json:
        print(json.dumps(vars(done)))
    else:
        went_on = f", {done.resumed} of them by an earlier copy" if done.resumed else ""
        print(f"{sum(done.rows.values())} rows in {len(done.rows)} tables{went_on}; each equals that of its origin")


@app.command("upgrade")
def upgrade(
    database: UrlArgument = None,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Leave the backup to your own tools.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a database of an earlier farfield up to date; it is backed up first."""
    from farfield.db.maintenance import upgrade as bring_up
    from farfield.service.campaign.config import CampaignConfig

    url = CampaignConfig.load(CAMPAIGN).database_url if database is None else url_of(database)
    done = bring_up(url, without_backup=no_backup)
    if as_json:
        print(json.dumps({"before": done.before, "after": done.after, "backup": done.backup and str(done.backup)}))
    elif done.before == done.after:
        print(f"already at revision {done.after}")
    else:
        print(
            f"upgraded from revision {done.before} to {done.after}" + (f"; backup {done.backup}" if done.backup else "")
        )


@app.command("info")
def info(database: UrlArgument = None, as_json: JsonOption = False) -> None:
    """Say what a database is and holds."""
    from farfield.db.maintenance import info as describe

    with open_record(CAMPAIGN, database) as record:
        found = describe(record)
    if as_json:
        print(json.dumps(found))
        return
    for name in ("database", "back end", "revision"):
        print(f"{name}: {found[name]}")
    print(f"size: {found['bytes'] / 1e6:.2f} MB")
    for table, rows in found["rows"].items():
        if rows:
            about = "about " if table in found["about"] else ""
            size = found["bytes by table"].get(table)
            print(f"  {table}: {about}{rows} rows" + (f", {size / 1e6:.2f} MB" if size else ""))
    for name in ("campaigns", "oracles", "datasets"):
        held = ", ".join(f"{key} ({value})" for key, value in found[name].items())
        print(f"{name}: {held or 'none'}")
    print(f"live sessions: {'; '.join(found['live sessions']) or 'none'}")
