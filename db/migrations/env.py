"""Alembic's environment: runs on the connection in ``config.attributes["connection"]``, in its transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from farfield.db.schema import metadata

connection = context.config.attributes.get("connection")
if not isinstance(connection, Connection):
    raise RuntimeError("migrations run on a connection of farfield; see farfield.db.migrations.upgrade")
# SQLite cannot alter constraints in place, so later revisions copy tables (batch mode).
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
