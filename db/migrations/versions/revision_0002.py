"""Digests of blobs, imported labels, frozen datasets, rolled-up costs, and the indexes that queries need.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL = sa.Float(precision=53)
PAGE = 200
"""Blobs in memory at once."""

ORIGIN = "(campaign_id IS NULL) = (source_id IS NOT NULL)"


def upgrade() -> None:
    """From 0001; every row stays."""
    op.add_column("blob", sa.Column("digest", sa.LargeBinary(length=32), nullable=True))
    _fill_digests(op.get_bind())
    with op.batch_alter_table("blob") as batch:
        batch.alter_column("digest", existing_type=sa.LargeBinary(length=32), nullable=False)
    op.create_table(
        "source",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("oracle_id", ID, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.ForeignKeyConstraint(["oracle_id"], ["oracle.id"], name=op.f("fk_source_oracle_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("sha256", "oracle_id", name=op.f("uq_source_sha256_oracle_id")),
    )
    with op.batch_alter_table("attempt") as batch:
        batch.alter_column("campaign_id", existing_type=ID, nullable=True)
        batch.add_column(sa.Column("source_id", ID, nullable=True))
        batch.create_foreign_key(op.f("fk_attempt_source_id"), "source", ["source_id"], ["id"])
        batch.create_check_constraint(op.f("ck_attempt_origin"), ORIGIN)
        batch.create_index(op.f("ix_attempt_source_id"), ["source_id"], unique=False)
    op.create_table(
        "dataset",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("members", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("name", name=op.f("uq_dataset_name")),
    )
    op.create_table(
        "dataset_member",
        sa.Column("dataset_id", ID, autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("calculation_id", ID, nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=True),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["calculation_id"], ["calculation.id"], name=op.f("fk_dataset_member_calculation_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_dataset_member_dataset_id")),
        sa.PrimaryKeyConstraint("dataset_id", "ordinal", name=op.f("pk_dataset_member")),
    )
    op.create_index(op.f("ix_dataset_member_calculation_id"), "dataset_member", ["calculation_id"], unique=False)
    op.create_table(
        "rollup",
        sa.Column("campaign_id", ID, autoincrement=False, nullable=False),
        sa.Column("upto", ID, autoincrement=False, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created", REAL, nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_rollup_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "upto", name=op.f("pk_rollup")),
    )
    op.create_index(op.f("ix_structure_formula"), "structure", ["formula"], unique=False)
    op.create_index(op.f("ix_attempt_ended"), "attempt", ["ended"], unique=False)


def downgrade() -> None:
    """Back to 0001. Raises ValueError where imported labels or datasets would be lost."""
    bind = op.get_bind()
    for name in ("source", "dataset"):
        if bind.scalar(sa.select(sa.func.count()).select_from(sa.table(name))):
            raise ValueError(f"the table {name} has rows, and revision 0001 has no place for them")
    op.drop_index(op.f("ix_attempt_ended"), "attempt")
    op.drop_index(op.f("ix_structure_formula"), "structure")
    for name in ("rollup", "dataset_member", "dataset"):
        op.drop_table(name)
    with op.batch_alter_table("attempt") as batch:
        batch.drop_index(op.f("ix_attempt_source_id"))
        batch.drop_constraint(op.f("ck_attempt_origin"), type_="check")
        batch.drop_constraint(op.f("fk_attempt_source_id"), type_="foreignkey")
        batch.drop_column("source_id")
        batch.alter_column("campaign_id", existing_type=ID, nullable=False)
    op.drop_table("source")
    with op.batch_alter_table("blob") as batch:
        batch.drop_column("digest")


def _fill_digests(bind: sa.Connection) -> None:
    blob = sa.table("blob", sa.column("id", ID), sa.column("data", sa.LargeBinary()), sa.column("digest"))
    last = 0
    put = sa.update(blob).where(blob.c.id == sa.bindparam("row")).values(digest=sa.bindparam("of"))
    while True:
        rows = bind.execute(
            sa.select(blob.c.id, blob.c.data).where(blob.c.id > last).order_by(blob.c.id).limit(PAGE)
        ).all()
        if not rows:
            return
        bind.execute(put, [{"row": r.id, "of": hashlib.sha256(bytes(r.data)).digest()} for r in rows])
        last = rows[-1].id
