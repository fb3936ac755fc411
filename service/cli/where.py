"""Which campaign a verb means: a campaign file, or a database with a campaign's name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from farfield.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from farfield.db.engine import Database

__all__ = ["DatabaseOption", "FileArgument", "FileOption", "NameOption", "Place", "find", "open_record", "url_of"]

FileArgument = Annotated[Path, typer.Argument(help="The campaign file.")]
FileOption = Annotated[Path, typer.Option("--file", "-f", help="The campaign file, whose database is meant.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="Look in this database (URL or SQLite file) in place of FILE's.")
]
NameOption = Annotated[str | None, typer.Option("--campaign", help="Name of the campaign, with --database.")]


@dataclass(frozen=True)
class Place:
    """An open database, the campaign's name in it, and the folder for what a verb writes. A context that closes it."""

    database: Database
    campaign: str
    folder: Path

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()


def find(file: Path, database: str | None, campaign: str | None, *, readonly: bool = True) -> Place:
    """The campaign that `file`, or `database` with `campaign`, names. Raises ConfigError, SchemaError, RecordError."""
    from farfield.db.engine import open_database

    if database is None:
        from farfield.service.campaign.config import CampaignConfig

        config = CampaignConfig.load(file)
        url, name, folder = config.database_url, campaign or config.campaign.name, config.folder
    else:
        url = url_of(database)
        name, folder = campaign or "", Path.cwd()
    path = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if path is not None and not path.exists():
        raise ConfigError(f"no database {path} yet; start the campaign with `farfield run`")
    opened = open_database(url, readonly=readonly)
    place = Place(opened, name, folder)
    try:
        return _checked(place, path)
    except BaseException:
        opened.close()
        raise


def open_record(file: Path, database: str | None, *, readonly: bool = True) -> Database:
    """The database that `database` names (a URL or an SQLite file), else that of the campaign file `file`.

    Raises ConfigError, SchemaError, RecordError.
    """
    from farfield.db.engine import open_database

    if database is None:
        from farfield.service.campaign.config import CampaignConfig

        url = CampaignConfig.load(file).database_url
    else:
        url = url_of(database)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise ConfigError(
            f"no database {url.removeprefix('sqlite:///')}; start a campaign, or `farfield import` labels"
        )
    return open_database(url, readonly=readonly)


def url_of(database: str) -> str:
    """The URL of what a person named: a URL, or an SQLite file."""
    return database if "://" in database else f"sqlite:///{Path(database).resolve()}"


def _checked(place: Place, path: Path | None) -> Place:
    """`place` with a campaign that exists: the one named, or the only one where none is named."""
    from farfield.db.record import Record

    names, name = Record(place.database).campaigns(), place.campaign
    if not name and len(names) == 1:
        name = names[0]
    if name not in names:
        known = f"it holds {', '.join(names)}" if names else "it holds none yet; start one with `farfield run`"
        raise RecordError(
            f"no campaign {name!r} in {path or 'the database'}: {known}" + ("; say --campaign" if names else "")
        )
    return Place(place.database, name, place.folder)
