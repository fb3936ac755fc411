"""The record: what a controller writes and reads, each method one short transaction (decisions A1 to A4).

A thin face of the files beside it; attempts and leases are in `claims`, selections of labels in `query`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ase import Atoms
from sqlalchemy import case, func, insert, select, update

from farfield.db import campaigns, decisions, force_constants, progress, requests, rollup, schema
from farfield.db.blobs import load_blob, store_blob
from farfield.db.calculations import calculation_ids, insert_new, oracle_id, store_calculations, store_oracle
from farfield.db.campaigns import StoredCampaign, StoredEvent, plain_text
from farfield.db.clock import now
from farfield.db.decisions import DecisionLike, StoredDecision, decision_row
from farfield.db.engine import Database
from farfield.db.force_constants import Part, StoredColumn
from farfield.db.labels import Array, Labels, labels
from farfield.db.progress import Cost, Missing, Share, StoredAnswer, Streak
from farfield.db.requests import PAUSED, STOPPED, Wishes
from farfield.db.sessions import LEASE_SECONDS, Holder
from farfield.errors import RecordError

__all__ = ["Record"]


class Record:
    """Campaigns, decisions, answers, estimates, models and events of one database.

    `campaign_id` is the row id that `create_campaign` returns and `campaign(name).id` gives; calculations and
    fingerprints are named by their hashes.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- campaigns -----------------------------------------------------------------------------------------------

    def campaigns(self) -> list[str]:
        """Names of the campaigns, oldest first."""
        with self.database.read() as connection:
            return list(connection.scalars(select(schema.campaign.c.name).order_by(schema.campaign.c.id)))

    def campaign(self, name: str) -> StoredCampaign | None:
        """The campaign called `name`, None where there is none."""
        with self.database.read() as connection:
            return campaigns.campaign(connection, name)

    def create_campaign(self, name: str, config: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> int:
        """A new campaign with its config and its oracle's fingerprint (both JSON-able); its id."""
        with self.database.write() as connection:
            return campaigns.create(connection, name, config, fingerprint)

    def set_campaign_state(self, campaign_id: int, state: str, ending: str | None = None) -> None:
        """Set the campaign's state, and why it ended where it did. A pause stands where a process was only stopped."""
        c = schema.campaign.c
        new = case((c.state == PAUSED, PAUSED), else_=state) if state in STOPPED else state
        self._update_campaign(campaign_id, state=new, ending=None if ending is None else plain_text(ending))

    def set_config(self, campaign_id: int, config: Mapping[str, Any]) -> None:
        """Replace the stored config (keys that a resumed campaign may change)."""
        self._update_campaign(campaign_id, config=dict(config))

    def set_oracle(self, campaign_id: int, fingerprint: Mapping[str, Any]) -> None:
        """Go on with another version of the oracle (``--accept-version``); decisions from now on ask this one."""
        with self.database.write() as connection:
            oracle = store_oracle(connection, fingerprint)
        self._update_campaign(campaign_id, oracle_id=oracle)

    def _update_campaign(self, campaign_id: int, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(update(schema.campaign).where(schema.campaign.c.id == campaign_id).values(**values))

    def lease_campaign(self, campaign_id: int, session: int, silence: float = LEASE_SECONDS) -> Holder | None:
        """Let `session` run the campaign; None then, else who runs it already. Nobody does after `silence`
        seconds without a sign of life."""
        with self.database.write() as connection:
            return campaigns.lease(connection, campaign_id, session, silence)

    def release_campaign(self, campaign_id: int, session: int) -> None:
        """The controller lets go; its attempts that no worker had claimed are withdrawn."""
        with self.database.write() as connection:
            campaigns.release(connection, campaign_id, session)

    def request_stop(self, name: str) -> bool:
        """Ask the process that runs the campaign to drain; False where none does."""
        with self.database.write() as connection:
            return campaigns.request_stop(connection, name)

    def wishes(self, campaign_id: int) -> Wishes:
        """What people ask of the process that runs the campaign: see `requests`."""
        with self.database.read() as connection:
            return requests.wishes(connection, campaign_id)

    def pause(self, name: str) -> Holder | None:
        """Let the campaign buy nothing new until it is resumed; the process that runs it now, if any."""
        with self.database.write() as connection:
            return requests.pause(connection, name)

    def resume(self, name: str) -> tuple[bool, Holder | None]:
        """End a pause; whether there was one, and the process that runs the campaign now, if any."""
        with self.database.write() as connection:
            return requests.resume(connection, name)

    def ask_calculations(self, campaign_id: int, kind: str, keys: Sequence[str]) -> list[int]:
        """Ask that calculations be tried anew or given up; their open attempts: see `requests.ask_calculations`."""
        with self.database.write() as connection:
            return requests.ask_calculations(connection, campaign_id, kind, keys)

    def event(self, campaign_id: int, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Append a line to the campaign's diary."""
        with self.database.write() as connection:
            campaigns.note(connection, campaign_id, kind, message, data or {})

    def events(self, campaign_id: int, kind: str | None = None, last: int | None = None) -> list[StoredEvent]:
        """The diary in order, of one kind or all, or the `last` few of it."""
        with self.database.read() as connection:
            return campaigns.events(connection, campaign_id, kind, last)

    # -- decisions -----------------------------------------------------------------------------------------------

    def store_decision(self, campaign_id: int, decision: DecisionLike, fingerprint: str | None = None) -> list[str]:
        """Write a decision before anything of it is submitted; the calculation keys in the order of its proposals.

        `fingerprint`: hash of the oracle that is to answer, by default the campaign's. See `decisions.store`.
        """
        with self.database.write() as connection:
            return decisions.store(connection, campaign_id, decision, fingerprint)

    def decisions(self, campaign_id: int) -> list[StoredDecision]:
        """All decisions of a campaign in order, their atoms bit for bit."""
        with self.database.read() as connection:
            return decisions.decisions(connection, campaign_id)

    def last_number(self, campaign_id: int) -> int | None:
        """The number of the newest decision, None before the first."""
        d = schema.decision.c
        with self.database.read() as connection:
            query = select(func.max(d.number)).where(d.campaign_id == campaign_id)
            number: int | None = connection.scalars(query).one()
            return number

    def last_decision(self, campaign_id: int) -> StoredDecision | None:
        """The decision that a resumed campaign goes on with."""
        d = schema.decision.c
        with self.database.read() as connection:
            query = select(d.number).where(d.campaign_id == campaign_id).order_by(d.number.desc()).limit(1)
            number = connection.scalars(query).one_or_none()
            return None if number is None else decisions.decisions(connection, campaign_id, first=number)[0]

    def missing(self, campaign_id: int, number: int, calculations: Collection[str] | None = None) -> list[Missing]:
        """The proposals of a decision that miss a kind, of all or of some calculations: see `progress.Missing`."""
        with self.database.read() as connection:
            return progress.missing(connection, campaign_id, number, calculations)

    def answers(self, campaign_id: int, number: int) -> list[StoredAnswer]:
        """The accepted labels for each proposal of a decision, by ordinal."""
        with self.database.read() as connection:
            return progress.answers(connection, campaign_id, number)

    def roll_up(self, campaign_id: int) -> bool:
        """Keep the sums of what is final, so that `cost` does not grow with the campaign: see `rollup`."""
        with self.database.write(relaxed=True) as connection:
            return rollup.roll_up(connection, campaign_id)

    def cost(self, campaign_id: int) -> Cost:
        """What the campaign was charged: every call that ran, in total and by role, kinds, size and state."""
        with self.database.read() as connection:
            return progress.cost(connection, campaign_id)

    def failure_messages(self, campaign_id: int) -> dict[str, str]:
        """What the newest failed call of each failure class said, by class."""
        with self.database.read() as connection:
            return progress.failure_messages(connection, campaign_id)

    def streak(self, campaign_id: int, patience: Mapping[str, int] | None = None) -> Streak:
        """How many new calculations have failed in a row: see `progress.Streak`."""
        with self.database.read() as connection:
            return progress.streak(connection, campaign_id, patience)

    def charges(self, campaign_id: int) -> dict[tuple[int, int] | None, Share]:
        """The same by proposal (decision, ordinal); calls outside a decision under None."""
        with self.database.read() as connection:
            return progress.charges(connection, campaign_id)

    def charge(self, campaign_id: int, number: int) -> Share:
        """What the proposals of one decision were charged."""
        with self.database.read() as connection:
            return progress.charge(connection, campaign_id, number)

    # -- calculations outside a decision, and derived observations -------------------------------------------------

    def store_calculation(self, atoms: Atoms, fingerprint: str) -> str:
        """Store a cell that is to be calculated outside a decision (`verify`); the calculation's key."""
        with self.database.write() as connection:
            return store_calculations(connection, oracle_id(connection, fingerprint), [atoms])[0][1]

    def labels(self, calculation: str) -> Labels:
        """All accepted labels of a calculation."""
        with self.database.read() as connection:
            row = calculation_ids(connection, [calculation])[calculation]
            return labels(connection, [row]).get(row, Labels())

    def store_force_constants(
        self,
        atoms: Atoms,
        fingerprint: str,
        site: int,
        direction: Sequence[float],
        step: float,
        column: Array,
        parts: Iterable[Part],
    ) -> bool:
        """Store an FC column (N, 3) eV/Å^2 of the undisplaced `atoms`; False where it is there already.

        `parts`: (key of a displaced calculation, signed step in Å, (3, 3) operation) of each it is made of.
        """
        with self.database.write() as connection:
            return force_constants.store(connection, atoms, fingerprint, site, direction, step, column, parts)

    def force_constants(self, atoms: Atoms, fingerprint: str) -> list[StoredColumn]:
        """The stored FC columns of an undisplaced cell."""
        with self.database.read() as connection:
            return force_constants.columns(connection, atoms, fingerprint)

    # -- estimates and models --------------------------------------------------------------------------------------

    def store_estimate(self, campaign_id: int, decision: int, content: Mapping[str, Any]) -> None:
        """Store the estimate that a decision gave (JSON-able); the first one stays."""
        with self.database.write() as connection:
            row = decision_row(connection, campaign_id, decision)
            values = {"decision_id": row, "content": dict(content), "created": now()}
            connection.execute(insert_new(connection, schema.estimate).values(values))

    def estimates(self, campaign_id: int) -> dict[int, dict[str, Any]]:
        """Estimates by decision number, in order."""
        d, e = schema.decision.c, schema.estimate.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(d.number, e.content)
                .join(schema.decision, d.id == e.decision_id)
                .where(d.campaign_id == campaign_id)
                .order_by(d.number)
            )
            return {number: content for number, content in rows}

    def store_model(self, campaign_id: int, decision: int, data: bytes) -> None:
        """Store the surrogate fitted after a decision; the first one stays."""
        m = schema.model.c
        with self.database.write() as connection:
            row = decision_row(connection, campaign_id, decision)
            if connection.scalars(select(m.decision_id).where(m.decision_id == row)).one_or_none() is None:
                values = {"decision_id": row, "blob_id": store_blob(connection, data), "created": now()}
                connection.execute(insert(schema.model).values(values))

    def model(self, campaign_id: int, decision: int | None = None) -> bytes:
        """The surrogate fitted after a decision, by default after the last. Raises RecordError where there is none."""
        d, m = schema.decision.c, schema.model.c
        query = (
            select(m.blob_id)
            .join(schema.decision, d.id == m.decision_id)
            .where(d.campaign_id == campaign_id)
            .order_by(d.number.desc())
            .limit(1)
        )
        with self.database.read() as connection:
            found = connection.scalars(query if decision is None else query.where(d.number == decision)).one_or_none()
            if found is None:
                raise RecordError("this campaign has no fitted surrogate yet; let it run on")
            return load_blob(connection, found)
