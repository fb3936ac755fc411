"""Indexes for the last answer of a campaign and for its events of a kind: what is asked often, and grew with history.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0003; every row stays."""
    op.create_index(op.f("ix_attempt_campaign_id_state_ended"), "attempt", ["campaign_id", "state", "ended"])
    op.drop_index(op.f("ix_attempt_campaign_id_state"), "attempt")
    op.create_index(op.f("ix_event_campaign_id_kind_id"), "event", ["campaign_id", "kind", "id"])


def downgrade() -> None:
    """Back to 0003; nothing is lost."""
    op.drop_index(op.f("ix_event_campaign_id_kind_id"), "event")
    op.create_index(op.f("ix_attempt_campaign_id_state"), "attempt", ["campaign_id", "state"])
    op.drop_index(op.f("ix_attempt_campaign_id_state_ended"), "attempt")
