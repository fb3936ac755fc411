"""Indexes for queries by role and by size.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = (["role", "calculation_id"], ["n1", "n2", "n3", "calculation_id"])


def upgrade() -> None:
    """From 0002; every row stays."""
    for columns in INDEXES:
        op.create_index(_name(columns), "proposal", columns, unique=False)


def downgrade() -> None:
    """Back to 0002; nothing is lost."""
    for columns in INDEXES:
        op.drop_index(_name(columns), "proposal")


def _name(columns: list[str]) -> str:
    return str(op.f(f"ix_proposal_{'_'.join(columns)}"))
