"""The first schema.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL = sa.Float(precision=53)


def upgrade() -> None:
    """An empty database to the first schema."""
    op.create_table(
        "blob",
        sa.Column("id", ID, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob")),
    )
    op.create_table(
        "oracle",
        sa.Column("id", ID, nullable=False),
        sa.Column("fingerprint_hash", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oracle")),
        sa.UniqueConstraint("fingerprint_hash", name=op.f("uq_oracle_fingerprint_hash")),
    )
    op.create_table(
        "worker_session",
        sa.Column("id", ID, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("start_time", REAL, nullable=False),
        sa.Column("opened", REAL, nullable=False),
        sa.Column("beat", REAL, nullable=False),
        sa.Column("closed", REAL, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker_session")),
    )
    op.create_index(op.f("ix_worker_session_closed_beat"), "worker_session", ["closed", "beat"], unique=False)
    op.create_table(
        "campaign",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("oracle_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.ForeignKeyConstraint(["oracle_id"], ["oracle.id"], name=op.f("fk_campaign_oracle_id")),
        sa.ForeignKeyConstraint(["session_id"], ["worker_session.id"], name=op.f("fk_campaign_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign")),
        sa.UniqueConstraint("name", name=op.f("uq_campaign_name")),
    )
    op.create_table(
        "structure",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("natoms", sa.Integer(), nullable=False),
        sa.Column("formula", sa.Text(), nullable=False),
        sa.Column("blob_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_structure_blob_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_structure")),
        sa.UniqueConstraint("key", name=op.f("uq_structure_key")),
    )
    op.create_index(op.f("ix_structure_natoms"), "structure", ["natoms"], unique=False)
    op.create_table(
        "calculation",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("structure_id", ID, nullable=False),
        sa.Column("oracle_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["oracle_id"], ["oracle.id"], name=op.f("fk_calculation_oracle_id")),
        sa.ForeignKeyConstraint(["structure_id"], ["structure.id"], name=op.f("fk_calculation_structure_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calculation")),
        sa.UniqueConstraint("key", name=op.f("uq_calculation_key")),
        sa.UniqueConstraint("structure_id", "oracle_id", name=op.f("uq_calculation_structure_id_oracle_id")),
    )
    op.create_index(op.f("ix_calculation_oracle_id"), "calculation", ["oracle_id"], unique=False)
    op.create_table(
        "decision",
        sa.Column("id", ID, nullable=False),
        sa.Column("campaign_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("cost_model", sa.Text(), nullable=False),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("inputs_blob_id", ID, nullable=False),
        sa.Column("state_blob_id", ID, nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_decision_campaign_id")),
        sa.ForeignKeyConstraint(["inputs_blob_id"], ["blob.id"], name=op.f("fk_decision_inputs_blob_id")),
        sa.ForeignKeyConstraint(["state_blob_id"], ["blob.id"], name=op.f("fk_decision_state_blob_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
        sa.UniqueConstraint("campaign_id", "number", name=op.f("uq_decision_campaign_id_number")),
    )
    op.create_table(
        "event",
        sa.Column("id", ID, nullable=False),
        sa.Column("campaign_id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_event_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_campaign_id_id"), "event", ["campaign_id", "id"], unique=False)
    op.create_table(
        "estimate",
        sa.Column("decision_id", ID, autoincrement=False, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.id"], name=op.f("fk_estimate_decision_id")),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_estimate")),
    )
    op.create_table(
        "model",
        sa.Column("decision_id", ID, autoincrement=False, nullable=False),
        sa.Column("blob_id", ID, nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_model_blob_id")),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.id"], name=op.f("fk_model_decision_id")),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_model")),
    )
    op.create_table(
        "proposal",
        sa.Column("id", ID, nullable=False),
        sa.Column("decision_id", ID, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("calculation_id", ID, nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("n1", sa.Integer(), nullable=False),
        sa.Column("n2", sa.Integer(), nullable=False),
        sa.Column("n3", sa.Integer(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["calculation_id"], ["calculation.id"], name=op.f("fk_proposal_calculation_id")),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.id"], name=op.f("fk_proposal_decision_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal")),
        sa.UniqueConstraint("decision_id", "ordinal", name=op.f("uq_proposal_decision_id_ordinal")),
    )
    op.create_index(op.f("ix_proposal_calculation_id"), "proposal", ["calculation_id"], unique=False)
    op.create_table(
        "attempt",
        sa.Column("id", ID, nullable=False),
        sa.Column("calculation_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("campaign_id", ID, nullable=False),
        sa.Column("proposal_id", ID, nullable=True),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("cancel", sa.Boolean(), nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("created", REAL, nullable=False),
        sa.Column("started", REAL, nullable=True),
        sa.Column("ended", REAL, nullable=True),
        sa.Column("core_seconds", REAL, nullable=True),
        sa.Column("settings", sa.Text(), nullable=True),
        sa.Column("difference", sa.Text(), nullable=True),
        sa.Column("blob_id", ID, nullable=True),
        sa.CheckConstraint("(state = 'failed') = (failure IS NOT NULL)", name=op.f("ck_attempt_failed")),
        sa.CheckConstraint(
            "failure IN ('worker lost', 'timed out', 'out of memory', 'crashed', "
            "'not converged', 'bad answer', 'not supported', 'input error')",
            name=op.f("ck_attempt_failure"),
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'finished', 'superseded', 'failed', 'withdrawn')",
            name=op.f("ck_attempt_state"),
        ),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_attempt_blob_id")),
        sa.ForeignKeyConstraint(["calculation_id"], ["calculation.id"], name=op.f("fk_attempt_calculation_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_attempt_campaign_id")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposal.id"], name=op.f("fk_attempt_proposal_id")),
        sa.ForeignKeyConstraint(["session_id"], ["worker_session.id"], name=op.f("fk_attempt_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.UniqueConstraint("calculation_id", "number", name=op.f("uq_attempt_calculation_id_number")),
    )
    op.create_index(op.f("ix_attempt_campaign_id_state"), "attempt", ["campaign_id", "state"], unique=False)
    op.create_index(op.f("ix_attempt_session_id_state"), "attempt", ["session_id", "state"], unique=False)
    op.create_index(op.f("ix_attempt_state"), "attempt", ["state"], unique=False)
    op.create_table(
        "observation",
        sa.Column("id", ID, nullable=False),
        sa.Column("calculation_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=4), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("attempt_id", ID, nullable=True),
        sa.Column("value", REAL, nullable=False),
        sa.Column("energy_zero", REAL, nullable=True),
        sa.Column("blob_id", ID, nullable=False),
        sa.Column("accepted", REAL, nullable=False),
        sa.CheckConstraint("(kind = 'FC') = (attempt_id IS NULL)", name=op.f("ck_observation_origin")),
        sa.CheckConstraint("(kind = 'FC') = (detail <> '')", name=op.f("ck_observation_detail")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_observation_attempt_id")),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_observation_blob_id")),
        sa.ForeignKeyConstraint(["calculation_id"], ["calculation.id"], name=op.f("fk_observation_calculation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observation")),
        sa.UniqueConstraint("calculation_id", "kind", "detail", name=op.f("uq_observation_calculation_id_kind_detail")),
    )
    op.create_index(op.f("ix_observation_attempt_id"), "observation", ["attempt_id"], unique=False)
    op.create_index(op.f("ix_observation_kind_value"), "observation", ["kind", "value"], unique=False)
    op.create_table(
        "fc_link",
        sa.Column("observation_id", ID, nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("calculation_id", ID, nullable=False),
        sa.Column("step", REAL, nullable=False),
        sa.Column("rotation", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["calculation_id"], ["calculation.id"], name=op.f("fk_fc_link_calculation_id")),
        sa.ForeignKeyConstraint(["observation_id"], ["observation.id"], name=op.f("fk_fc_link_observation_id")),
        sa.PrimaryKeyConstraint("observation_id", "ordinal", name=op.f("pk_fc_link")),
    )
    op.create_index(op.f("ix_fc_link_calculation_id"), "fc_link", ["calculation_id"], unique=False)


def downgrade() -> None:
    """Back to an empty database."""
    op.drop_index(op.f("ix_fc_link_calculation_id"), table_name="fc_link")
    op.drop_table("fc_link")
    op.drop_index(op.f("ix_observation_kind_value"), table_name="observation")
    op.drop_index(op.f("ix_observation_attempt_id"), table_name="observation")
    op.drop_table("observation")
    op.drop_index(op.f("ix_attempt_state"), table_name="attempt")
    op.drop_index(op.f("ix_attempt_session_id_state"), table_name="attempt")
    op.drop_index(op.f("ix_attempt_campaign_id_state"), table_name="attempt")
    op.drop_table("attempt")
    op.drop_index(op.f("ix_proposal_calculation_id"), table_name="proposal")
    op.drop_table("proposal")
    op.drop_table("model")
    op.drop_table("estimate")
    op.drop_index(op.f("ix_event_campaign_id_id"), table_name="event")
    op.drop_table("event")
    op.drop_table("decision")
    op.drop_index(op.f("ix_calculation_oracle_id"), table_name="calculation")
    op.drop_table("calculation")
    op.drop_index(op.f("ix_structure_natoms"), table_name="structure")
    op.drop_table("structure")
    op.drop_table("campaign")
    op.drop_index(op.f("ix_worker_session_closed_beat"), table_name="worker_session")
    op.drop_table("worker_session")
    op.drop_table("oracle")
    op.drop_table("blob")
