"""Cores of an attempt: what a lost call had used up is charged with all of them. And an index for the newest failure.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INDEX = "ix_attempt_campaign_id_failure_id"


def upgrade() -> None:
    """From 0004; every row stays. Earlier attempts count as one core, as they were charged."""
    op.add_column("attempt", sa.Column("cores", sa.Integer(), nullable=False, server_default=sa.text("1")))
    failed = sa.text("failure IS NOT NULL")
    columns = ["campaign_id", "failure", "id"]
    op.create_index(op.f(INDEX), "attempt", columns, unique=False, sqlite_where=failed, postgresql_where=failed)


def downgrade() -> None:
    """Back to 0004; the cores of attempts are lost, their charge stays."""
    op.drop_index(op.f(INDEX), "attempt")
    op.drop_column("attempt", "cores")
