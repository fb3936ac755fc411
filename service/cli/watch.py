"""`farfield watch`: a live view of a campaign, from its database, on any machine that reaches it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

if TYPE_CHECKING:
    from rich.console import Group

    from farfield.service.cli.standing import Standing

__all__ = ["picture", "watch"]

ROUNDS = 8
"""Rounds in view."""
CALLS = 12
"""Running calls in view."""
LINES = 8
"""Lines of the diary in view."""


def watch(
    file: FileArgument = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="One picture, then end; so too where there is no terminal.")
    ] = False,
) -> None:
    """Watch a campaign live until nobody runs it any more, also while the database is away for a while; Ctrl-C leaves
    it alone. It only reads."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text
    from sqlalchemy.exc import DBAPIError

    from farfield.db.outage import is_away
    from farfield.service.cli.standing import standing
    from farfield.service.runner.session import BEAT_SECONDS

    console = Console()
    with find(file, database, campaign) as place:
        found = standing(place.database, place.campaign, ROUNDS)
        if once or not console.is_terminal:
            console.print(picture(found, console.width))
            return
        try:
            with Live(picture(found, console.width), console=console, screen=False, auto_refresh=False) as live:
                away, calm = False, 0.0
                while away or not found.over or time.monotonic() < calm:
                    time.sleep(interval)
                    try:
                        found = standing(place.database, place.campaign, ROUNDS)
                    except DBAPIError as fault:
                        if not is_away(fault):
                            raise
                        said = Text("the database is away: this is how it stood; it is asked again", style="bold red")
                        live.update(Group(picture(found, console.width), said), refresh=True)
                        away = True
                        continue
                    if away:  # who runs it could give no sign of life either
                        away, calm = False, time.monotonic() + 2 * BEAT_SECONDS
                    live.update(picture(found, console.width), refresh=True)
        except KeyboardInterrupt:
            return
    console.print(f"{found.stored.name} is {found.state}; nobody runs it.", highlight=False)


def picture(found: Standing, width: int) -> Group:
    """What is drawn: state, rounds, running calls, the newest lines of the diary."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from farfield.service.cli.rounds import rounds_table

    stored, cost = found.stored, found.cost
    run_by = f", run by {stored.holder}" if stored.holder is not None else ""
    parts: list[object] = [Text(f"{stored.name}: {found.state}{run_by}", style="bold")]
    if stored.ending:
        parts.append(Text(stored.ending))
    if found.rounds:
        parts.append(rounds_table(found.rounds, width))
        latest = found.rounds[-1]
        parts.append(Text(f"round {latest.number}: {latest.reason}", style="cyan"))
        parts.append(ProgressBar(total=max(latest.size, 1), completed=latest.size - found.open, width=min(width, 60)))
        parts.append(Text(f"{latest.size - found.open} of {latest.size} settled, {cost.running} running"))
    parts.append(Text(f"{cost.calls} oracle calls, {cost.core_seconds:.1f} core-seconds"))
    if found.calls:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("attempt", "calculation", "cell", "kinds", "worker"):
            table.add_column(name, no_wrap=True)
        table.add_column("runs, s", justify="right")
        for c in found.calls[:CALLS]:
            where = f"{c.host}:{c.pid}"
            table.add_row(str(c.attempt), c.calculation[:10], c.formula, c.kinds, where, f"{c.seconds:.0f}")
        parts.append(table)
        if cost.running > CALLS:
            parts.append(Text(f"and {cost.running - CALLS} more"))
    for e in found.lines[-LINES:]:
        text = f"{time.strftime('%H:%M:%S', time.localtime(e.time))} {e.kind}: {e.message}"
        parts.append(Text(text, style="dim", no_wrap=True, overflow="ellipsis"))
    if found.dashboard:
        parts.append(Text(f"Dask's dashboard {found.dashboard}"))
    return Group(*parts)  # type: ignore[arg-type]
