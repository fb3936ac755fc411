"""`farfield stop`: drain a running campaign through a flag in its database."""

from __future__ import annotations

from pathlib import Path

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

__all__ = ["stop"]


def stop(
    file: FileArgument = Path("campaign.toml"), database: DatabaseOption = None, campaign: NameOption = None
) -> None:
    """Drain: the running controller finishes the calls in flight, buys nothing new and exits with code 0."""
    from farfield.db.record import Record

    with find(file, database, campaign, readonly=False) as place:
        if Record(place.database).request_stop(place.campaign):
            print(f"{place.campaign}: stop asked for; calls in flight will finish. Resume with `farfield run {file}`.")
        else:
            print(f"{place.campaign} is not running; nothing to stop.")
