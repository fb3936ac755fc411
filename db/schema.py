"""The tables (decisions A, store.md A5). Rows are narrow scalars; every array is a blob row, written once.

    campaign -> decision -> proposal -> calculation -> attempt -> observation      (blob beside)
    oracle <- calculation -> structure;   worker_session <- attempt;   fc_link: FC observation -> displaced calculations
    source -> attempt: labels that were imported;   dataset -> dataset_member -> calculation;   rollup <- campaign

Times are seconds since 1970 by the database's clock. The migrations create exactly this metadata; a test compares them.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from farfield.oracles.oracle import FAILURES

__all__ = [
    "BLAMED",
    "OPEN",
    "REVISION",
    "STATES",
    "Json",
    "attempt",
    "blob",
    "calculation",
    "campaign",
    "dataset",
    "dataset_member",
    "decision",
    "estimate",
    "event",
    "fc_link",
    "metadata",
    "model",
    "observation",
    "oracle",
    "proposal",
    "rollup",
    "source",
    "structure",
    "worker_session",
]

REVISION = "0005"
"""Schema revision of this program: the head of `migrations/versions`."""

STATES: tuple[str, ...] = ("waiting", "running", "finished", "superseded", "failed", "withdrawn")
"""States of an attempt (decisions A5)."""
OPEN: tuple[str, ...] = ("waiting", "running")
"""States of an attempt that is still under way."""
BLAMED = "the call ended without an answer"
"""How the message of a `worker lost` begins that counts against the calculation too: its worker died under it."""


class Json(TypeDecorator[Any]):
    """JSON as text on every database: insertion order, floats and NaN come back as they went in. Never filtered on."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """To text. Raises TypeError for what is not JSON (numpy arrays, say)."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """From text."""
        return None if value is None else json.loads(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")
"""Row ids: SQLite counts them up by itself only for INTEGER."""
Key = String(64)
Digest = LargeBinary(32)
Real = Float(53)


def _among(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


blob = Table(
    "blob",
    metadata,
    Column("id", Id, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("digest", Digest, nullable=False),
)
"""`digest`: sha256 of the data, by which `farfield db check` finds what a disk or a copy has changed."""

structure = Table(
    "structure",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Key, nullable=False, unique=True),
    Column("natoms", Integer, nullable=False, index=True),
    Column("formula", Text, nullable=False, index=True),
    Column("blob_id", ForeignKey("blob.id"), nullable=False),
)

oracle = Table(
    "oracle",
    metadata,
    Column("id", Id, primary_key=True),
    Column("fingerprint_hash", Key, nullable=False, unique=True),
    Column("fingerprint", Json, nullable=False),
)

calculation = Table(
    "calculation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Key, nullable=False, unique=True),
    Column("structure_id", ForeignKey("structure.id"), nullable=False),
    Column("oracle_id", ForeignKey("oracle.id"), nullable=False, index=True),
    UniqueConstraint("structure_id", "oracle_id"),
)

worker_session = Table(
    "worker_session",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("start_time", Real, nullable=False),
    Column("opened", Real, nullable=False),
    Column("beat", Real, nullable=False),
    Column("closed", Real),
    Index(None, "closed", "beat"),
)
"""One row per process that may hold claims or a campaign. `beat`: its last heartbeat."""

campaign = Table(
    "campaign",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("ending", Text),
    Column("config", Json, nullable=False),
    Column("oracle_id", ForeignKey("oracle.id"), nullable=False),
    Column("session_id", ForeignKey("worker_session.id")),
    Column("stop_requested", Boolean, nullable=False, default=False),
    Column("created", Real, nullable=False),
)
"""`session_id`: the controller that runs it now. `ending`: why it ended, in words."""

decision = Table(
    "decision",
    metadata,
    Column("id", Id, primary_key=True),
    Column("campaign_id", ForeignKey("campaign.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("cost_model", Json, nullable=False),
    Column("weights", Json, nullable=False),
    Column("summary", Json, nullable=False),
    Column("inputs_blob_id", ForeignKey("blob.id"), nullable=False),
    Column("state_blob_id", ForeignKey("blob.id"), nullable=False),
    Column("created", Real, nullable=False),
    UniqueConstraint("campaign_id", "number"),
)

proposal = Table(
    "proposal",
    metadata,
    Column("id", Id, primary_key=True),
    Column("decision_id", ForeignKey("decision.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("calculation_id", ForeignKey("calculation.id"), nullable=False, index=True),
    Column("kinds", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("term", Text, nullable=False),
    Column("n1", Integer, nullable=False),
    Column("n2", Integer, nullable=False),
    Column("n3", Integer, nullable=False),
    Column("meta", Json, nullable=False),
    UniqueConstraint("decision_id", "ordinal"),
    Index(None, "role", "calculation_id"),
    Index(None, "n1", "n2", "n3", "calculation_id"),
)

source = Table(
    "source",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", Key, nullable=False),
    Column("oracle_id", ForeignKey("oracle.id"), nullable=False),
    Column("content", Json, nullable=False),
    Column("created", Real, nullable=False),
    UniqueConstraint("sha256", "oracle_id"),
)
"""A file that labels were imported from: its name and hash, the oracle they are of, and in `content` the format and how
the oracle's checks of them came out."""

attempt = Table(
    "attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("calculation_id", ForeignKey("calculation.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("campaign_id", ForeignKey("campaign.id")),
    Column("proposal_id", ForeignKey("proposal.id")),
    Column("kinds", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("failure", Text),
    Column("message", Text),
    Column("cancel", Boolean, nullable=False, default=False),
    Column("session_id", ForeignKey("worker_session.id")),
    Column("created", Real, nullable=False),
    Column("started", Real),
    Column("ended", Real, index=True),
    Column("core_seconds", Real),
    Column("settings", Json),
    Column("difference", Json),
    Column("blob_id", ForeignKey("blob.id")),
    Column("source_id", ForeignKey("source.id"), index=True),
    Column("cores", Integer, nullable=False, server_default=text("1")),
    UniqueConstraint("calculation_id", "number"),
    CheckConstraint(_among("state", STATES), name="state"),
    CheckConstraint(_among("failure", FAILURES), name="failure"),
    CheckConstraint("(state = 'failed') = (failure IS NOT NULL)", name="failed"),
    CheckConstraint("(campaign_id IS NULL) = (source_id IS NOT NULL)", name="origin"),
    Index(None, "campaign_id", "state", "ended"),
    Index(None, "session_id", "state"),
    Index(
        None,
        "campaign_id",
        "failure",
        "id",
        sqlite_where=text("failure IS NOT NULL"),
        postgresql_where=text("failure IS NOT NULL"),
    ),
)
"""One row per oracle call, or per imported label (`source_id`). `session_id`: the controller while it waits, the worker
from the claim on. `proposal_id`: the newest proposal of the campaign that names the calculation, None for calls outside
a decision. `core_seconds`: wall time times `cores`. `difference`: largest
|answer - label| by kind, where another attempt had been accepted before."""

observation = Table(
    "observation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("calculation_id", ForeignKey("calculation.id"), nullable=False),
    Column("kind", String(4), nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Column("attempt_id", ForeignKey("attempt.id"), index=True),
    Column("value", Real, nullable=False),
    Column("energy_zero", Real),
    Column("blob_id", ForeignKey("blob.id"), nullable=False),
    Column("accepted", Real, nullable=False),
    UniqueConstraint("calculation_id", "kind", "detail"),
    CheckConstraint("(kind = 'FC') = (attempt_id IS NULL)", name="origin"),
    CheckConstraint("(kind = 'FC') = (detail <> '')", name="detail"),
    Index(None, "kind", "value"),
)
"""Accepted labels; the unique constraint is A4. `value`: E the energy (eV), F the largest force (eV/Å), V a third of
the trace (eV), FC the largest entry (eV/Å^2). `blob_id`: the attempt's result, or the FC column, whose `detail` is the
site, direction and step that it is unique by."""

fc_link = Table(
    "fc_link",
    metadata,
    Column("observation_id", ForeignKey("observation.id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("calculation_id", ForeignKey("calculation.id"), nullable=False, index=True),
    Column("step", Real, nullable=False),
    Column("rotation", Json, nullable=False),
)
"""The displaced calculations an FC column is made of: signed step (Å) and the symmetry operation applied."""

estimate = Table(
    "estimate",
    metadata,
    Column("decision_id", ForeignKey("decision.id"), primary_key=True, autoincrement=False),
    Column("content", Json, nullable=False),
    Column("created", Real, nullable=False),
)

model = Table(
    "model",
    metadata,
    Column("decision_id", ForeignKey("decision.id"), primary_key=True, autoincrement=False),
    Column("blob_id", ForeignKey("blob.id"), nullable=False),
    Column("created", Real, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Id, primary_key=True),
    Column("campaign_id", ForeignKey("campaign.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", Json, nullable=False),
    Column("created", Real, nullable=False),
    Index(None, "campaign_id", "id"),
    Index(None, "campaign_id", "kind", "id"),
)

dataset = Table(
    "dataset",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("query", Text, nullable=False),
    Column("members", Integer, nullable=False),
    Column("digest", Key, nullable=False),
    Column("content", Json, nullable=False),
    Column("created", Real, nullable=False),
)
"""A frozen selection: `digest` is the sha256 over its members' digests in order; `content` the split, if any."""

dataset_member = Table(
    "dataset_member",
    metadata,
    Column("dataset_id", ForeignKey("dataset.id"), primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("calculation_id", ForeignKey("calculation.id"), nullable=False, index=True),
    Column("kinds", Text, nullable=False),
    Column("part", Text),
    Column("meta", Json, nullable=False),
    Column("digest", Key, nullable=False),
)
"""`digest`: sha256 of the calculation's key, the kinds and their values. `part`: of the split. `meta`: what else an
export says of the member (role, rung, family, weights), pinned so that it can be written again byte for byte."""

rollup = Table(
    "rollup",
    metadata,
    Column("campaign_id", ForeignKey("campaign.id"), primary_key=True, autoincrement=False),
    Column("upto", Id, primary_key=True, autoincrement=False),
    Column("content", Json, nullable=False),
    Column("created", Real, nullable=False),
)
"""The cost of a campaign's attempts with ids up to `upto`, all of them terminal, so that a status adds up the rest."""
