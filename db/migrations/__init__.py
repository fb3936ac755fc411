"""Schema migrations, run by the program itself on a connection it gives (there is no alembic.ini)."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

__all__ = ["configuration", "upgrade"]


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the revisions here, with the connection they run on."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to `revision` within the connection's transaction, which the caller commits."""
    command.upgrade(configuration(connection), revision)
