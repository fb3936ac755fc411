"""`farfield log`: the diary of a campaign, whose lines are only ever added to."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

if TYPE_CHECKING:
    from farfield.db.overview import Line

__all__ = ["log"]

SPANS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
FOLLOW_SECONDS = 1.0


def log(
    file: FileArgument = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", "-k", help="Lines of this kind; may be repeated.")] = None,
    contains: Annotated[str | None, typer.Option("--contains", help="Lines with this text, in any case.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Lines since 2h, 30min, 1d, or 2026-01-31T12:00.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Lines at most: the newest, in order.")] = 50,
    after: Annotated[int | None, typer.Option("--after", help="A page on: the first lines beyond this id.")] = None,
    before: Annotated[
        int | None, typer.Option("--before", help="A page back: the last lines ahead of this id.")
    ] = None,
    kinds: Annotated[
        bool, typer.Option("--kinds", help="Which kinds there are and how often, and nothing else.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as lines come, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each.")] = False,
) -> None:
    """Show the diary: what the controller, its workers and people did and why. Each line has an id to go on from."""
    from farfield.db import overview
    from farfield.db.record import Record

    start = None if since is None else _moment(since)
    with find(file, database, campaign) as place:
        stored = Record(place.database).campaign(place.campaign)
        if stored is None:
            raise AssertionError("find() returns campaigns that exist")
        if kinds:
            with place.database.read() as connection:
                counts = overview.line_count(connection, stored.id)
            print(json.dumps(counts) if as_json else "\n".join(f"{n:>7}  {name}" for name, n in counts.items()))
            return

        def page(beyond: int | None) -> list[Line]:
            with place.database.read() as connection:
                return overview.lines(
                    connection,
                    stored.id,
                    kinds=kind or (),
                    contains=contains,
                    since=start,
                    after=beyond,
                    before=before,
                    limit=limit,
                )

        last = after
        found = page(after)
        try:
            while True:
                for line in found:
                    print(json.dumps(line.to_json()) if as_json else _text(line), flush=follow)
                    last = line.id
                if not follow:
                    return
                if not found:
                    time.sleep(FOLLOW_SECONDS)
                found = page(last or 0)
        except KeyboardInterrupt:
            return


def _text(line: Line) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time))
    return f"{line.id:>6}  {moment}  {line.kind}: {' '.join(line.message.split())}"


def _moment(text: str) -> float:
    """Seconds since 1970 of "2h" ago or of a date. Raises ConfigError."""
    from farfield.errors import ConfigError

    if span := re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|d|w)", text.strip()):
        return time.time() - float(span[1]) * SPANS[span[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since {text!r} is no time; write 30min, 12h, 2d, or a date such as 2026-01-31T12:00", key="since"
        ) from None
