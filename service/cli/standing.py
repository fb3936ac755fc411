"""How a campaign stands, read from its database alone at a cost that does not grow with the campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farfield.db.campaigns import StoredCampaign
    from farfield.db.engine import Database
    from farfield.db.overview import Call, Line
    from farfield.db.progress import Cost
    from farfield.service.cli.rounds import Round

__all__ = ["EVENTS", "ROUNDS", "Standing", "standing"]

EVENTS = 100
"""Newest lines of the diary that are read."""
ROUNDS = 30
"""Newest rounds that are read."""
DASHBOARD = "dashboard"
"""Kind of the event whose data hold the link to Dask's dashboard."""


@dataclass(frozen=True)
class Standing:
    """`open`: proposals of the newest decision that miss an answer. `dashboard`: Dask's own, of the cluster in use."""

    stored: StoredCampaign
    rounds: list[Round]
    cost: Cost
    open: int
    calls: list[Call]
    lines: list[Line]
    failures: dict[str, str]
    dashboard: str | None
    shown: str

    @property
    def state(self) -> str:
        """In one word. A campaign that nobody runs is interrupted, whatever its last controller left; one whose
        controller was told to stop, and finishes its calls, is stopping."""
        if self.stored.state == "running" and self.stored.holder is None:
            return "interrupted"
        return "stopping" if self.stored.holder is not None and self.stored.stop_requested else self.stored.state

    @property
    def over(self) -> bool:
        """Whether nobody runs it, so that nothing will change."""
        return self.stored.holder is None

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        cost, rounds = self.cost, self.rounds
        return {
            "campaign": self.stored.name,
            "state": self.state,
            "ending": self.stored.ending,
            "controller": None if self.stored.holder is None else str(self.stored.holder),
            "dashboard": self.dashboard,
            "database": self.shown,
            "calls": cost.calls,
            "core_seconds": cost.core_seconds,
            "by_role": {k: [s.calls, s.core_seconds] for k, s in cost.by_role.items()},
            "by_state": {k: s.calls for k, s in cost.by_state.items()},
            "failures": self.failures,
            "running": cost.running,
            "open_calculations": self.open,
            "noise": rounds[-1].noise.to_json() if rounds and rounds[-1].noise is not None else None,
            "rounds": [r.to_json() for r in rounds],
            "events": [[e.time, e.kind, e.message] for e in self.lines],
        }


def standing(database: Database, campaign: str, rounds: int | None = ROUNDS) -> Standing:
    """How `campaign`, which exists, stands; its newest `rounds`, or all of them."""
    from farfield.db import overview
    from farfield.db.record import Record
    from farfield.errors import RecordError
    from farfield.service.cli.rounds import stored_rounds

    record = Record(database)
    stored = record.campaign(campaign)
    if stored is None:
        raise RecordError(f"there is no campaign {campaign!r} in this database any more")
    read = stored_rounds(record, stored.id, rounds)
    cost = record.cost(stored.id)
    failures = record.failure_messages(stored.id) if any("failed" in s for s in cost.by_state) else {}
    with database.read() as connection:
        lines = overview.lines(connection, stored.id, limit=EVENTS)
        links = overview.lines(connection, stored.id, kinds=(DASHBOARD,), limit=1) if stored.holder is not None else []
        open_ones = overview.open_count(connection, stored.id)
        calls = overview.calls(connection, stored.id)
    link = links[-1].data.get("link") if links else None
    return Standing(stored, read, cost, open_ones, calls, lines, failures, link, database.shown)
