"""`farfield status`: how a campaign stands, from its database alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

__all__ = ["status"]

EVENTS = 100
"""Newest lines of the diary that are shown."""


def status(
    file: FileArgument = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how a campaign stands: state, rounds, cost, what runs and what failed."""
    from farfield.db.claims import Claims
    from farfield.db.record import Record
    from farfield.service.cli.rounds import basis_lines, noise_line, rounds_table, stored_rounds

    with find(file, database, campaign) as place:
        record = Record(place.database)
        stored = record.campaign(place.campaign)
        if stored is None:
            raise AssertionError("find() returns campaigns that exist")
        rounds = stored_rounds(record, stored.id)
        cost = record.cost(stored.id)
        waiting = record.missing(stored.id, rounds[-1].number) if rounds else []
        leases = Claims(place.database).leases(stored.id)
        events = record.events(stored.id, last=EVENTS)
        failures = record.failure_messages(stored.id)
        shown = place.database.shown
    state = stored.state
    if state == "running" and stored.holder is None:
        state = "interrupted"
    if as_json:
        content: dict[str, Any] = {
            "campaign": stored.name,
            "state": state,
            "ending": stored.ending,
            "controller": None if stored.holder is None else str(stored.holder),
            "database": shown,
            "calls": cost.calls,
            "core_seconds": cost.core_seconds,
            "by_role": {k: [s.calls, s.core_seconds] for k, s in cost.by_role.items()},
            "by_state": {k: s.calls for k, s in cost.by_state.items()},
            "failures": failures,
            "running": len(leases),
            "open_calculations": len(waiting),
            "noise": rounds[-1].noise.to_json() if rounds and rounds[-1].noise is not None else None,
            "rounds": [r.to_json() for r in rounds],
            "events": [[e.time, e.kind, e.message] for e in events],
        }
        print(json.dumps(content))
        return
    from rich.console import Console

    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say(f"{stored.name}: {state}" + (f", run by {stored.holder}" if stored.holder is not None else ""))
    if stored.ending:
        say(f"  {stored.ending}")
    if rounds:
        console.print(rounds_table(rounds, console.width))
        for line in basis_lines(rounds):
            say(line)
        if (noise := noise_line(rounds)) is not None:
            say(noise)
        say(f"latest: {rounds[-1].reason}")
    say(f"{cost.calls} oracle calls, {cost.core_seconds:.1f} core-seconds; {len(leases)} running, {len(waiting)} open")
    for name, share in sorted(cost.by_state.items()):
        if name != "finished":
            why = failures.get(name.removeprefix("failed: "), "")
            say(f"  {share.calls} calls {name}" + (f"; the last: {why}" if why else ""))
    for e in events[-5:]:
        say(f"  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(e.time))} {e.kind}: {e.message}")
    say(f"database {shown}")
