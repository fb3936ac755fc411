"""`farfield stop`, `pause` and `resume`: steer a running campaign through its database, from any machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

__all__ = ["pause", "resume", "stop"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def stop(
    file: FileArgument = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drain: the running controller finishes the calls in flight, buys nothing new and exits with code 0."""
    from farfield.db.record import Record

    with find(file, database, campaign, readonly=False) as place:
        asked = Record(place.database).request_stop(place.campaign)
        text = (
            f"stop asked for; calls in flight will finish. Resume with `{_run(file, database)}`."
            if asked
            else "not running; nothing to stop."
        )
        _say(place.campaign, text if asked else f"is {text}", as_json, stopping=asked)


def pause(
    file: FileArgument = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Buy nothing new until `farfield resume`, also after a restart; calls that run finish and are recorded."""
    from farfield.db.record import Record

    with find(file, database, campaign, readonly=False) as place:
        holder = Record(place.database).pause(place.campaign)
        text = "is paused; calls in flight finish. `farfield resume` lets it go on."
        if holder is None:
            text = "is paused, and nobody runs it: `farfield run` will wait for `farfield resume`."
        _say(place.campaign, text, as_json, paused=True, controller=None if holder is None else str(holder))


def resume(
    file: FileArgument = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a pause. A campaign that nobody runs is resumed by `farfield run`."""
    from farfield.db.record import Record

    with find(file, database, campaign, readonly=False) as place:
        was, holder = Record(place.database).resume(place.campaign)
        text = "goes on." if was else "was not paused."
        if holder is None:
            text = f"{text} Nobody runs it: `{_run(file, database)}` does."
        _say(place.campaign, text, as_json, resumed=was, controller=None if holder is None else str(holder))


def _run(file: Path, database: str | None) -> str:
    """The command that runs the campaign; where its file was not named, it lies elsewhere."""
    return "farfield run" if database is not None else f"farfield run {file}"


def _say(campaign: str, text: str, as_json: bool, **facts: object) -> None:
    if as_json:
        print(json.dumps({"campaign": campaign, **facts}))
    else:
        print(f"{campaign} {text}" if not text.startswith("stop asked") else f"{campaign}: {text}")
