"""`farfield status`: how a campaign stands, from its database alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

if TYPE_CHECKING:
    from rich.console import Console

    from farfield.service.cli.standing import Standing

__all__ = ["status"]


def status(
    file: FileArgument = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    all_rounds: Annotated[bool, typer.Option("--all", help="All rounds, not the newest 30 alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how a campaign stands: state, rounds, cost, what runs and what failed.

    From any machine that reaches the database (--database URL --campaign NAME); see `watch` for a live view.
    """
    from farfield.service.cli.standing import ROUNDS, standing

    with find(file, database, campaign) as place:
        found = standing(place.database, place.campaign, None if all_rounds else ROUNDS)
    if as_json:
        print(json.dumps(found.to_json()))
        return
    from rich.console import Console

    _print(Console(), found)


def _print(console: Console, found: Standing) -> None:
    from farfield.service.cli.rounds import basis_lines, noise_line, rounds_table

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    stored, rounds, cost = found.stored, found.rounds, found.cost
    say(f"{stored.name}: {found.state}" + (f", run by {stored.holder}" if stored.holder is not None else ""))
    if stored.ending:
        say(f"  {stored.ending}")
    if rounds:
        if rounds[0].number:
            say(f"rounds 0 to {rounds[0].number - 1} are not shown; --all shows them")
        console.print(rounds_table(rounds, console.width))
        for line in basis_lines(rounds):
            say(line)
        if (noise := noise_line(rounds)) is not None:
            say(noise)
        say(f"latest: {rounds[-1].reason}")
    say(f"{cost.calls} oracle calls, {cost.core_seconds:.1f} core-seconds; {cost.running} running, {found.open} open")
    for name, share in sorted(cost.by_state.items()):
        if name != "finished":
            why = found.failures.get(name.removeprefix("failed: "), "")
            say(f"  {share.calls} calls {name}" + (f"; the last: {why}" if why else ""))
    for e in found.lines[-5:]:
        say(f"  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(e.time))} {e.kind}: {e.message}")
    if found.dashboard:
        say(f"Dask's dashboard {found.dashboard}")
    say(f"database {found.shown}")
