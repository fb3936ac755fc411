"""`farfield retry` and `farfield cancel`: calculations of a campaign, chosen by a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farfield.service.cli.where import DatabaseOption, FileOption, NameOption, Place, find

if TYPE_CHECKING:
    from farfield.db.progress import Missing

__all__ = ["cancel", "retry"]

QueryArgument = Annotated[
    str, typer.Argument(help="A query, such as 'failure=\"timed out\"'; see `farfield ls --fields`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, a line for each.")]
SHOWN = 50
"""Lines of a listing for people."""


def retry(
    query: QueryArgument,
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List them, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Try calculations anew that failed or were cancelled: their failures so far burn no budget any more.

    Of the decisions under way: what an earlier round was concluded without stays out (its labels would come too late).
    """
    from farfield.db.record import Record
    from farfield.db.requests import RETRY

    with find(file, database, campaign, readonly=dry_run) as place:
        found = [x for x in _under_way(place, query) if x[1].failures or x[1].cancelled]
        _list(found, as_json, retried=not dry_run)
        if found and not dry_run:
            Record(place.database).ask_calculations(_id(place), RETRY, [m.calculation for _, m in found])
        if not as_json:
            count = _count(found)
            did = "would be tried anew" if dry_run else "will be tried anew"
            none = "no calculation under way that fits has failed or was cancelled"
            print(f"{count} {did}." if found else f"{place.campaign}: {none}; nothing to retry.")


def cancel(
    query: QueryArgument,
    file: FileOption = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, they are listed and nothing happens.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give calculations up: calls that wait are withdrawn, calls that run are killed, and none is asked again.

    The campaign goes on without them, or ends where it cannot; `farfield retry` takes it back while the round lasts.
    """
    from farfield.db.claims import Claims
    from farfield.db.record import Record
    from farfield.db.requests import CANCEL

    with find(file, database, campaign, readonly=not yes) as place:
        found = [x for x in _under_way(place, query) if not x[1].cancelled]
        _list(found, as_json, cancelled=yes)
        if found and yes:
            claims = Claims(place.database)
            for attempt in Record(place.database).ask_calculations(
                _id(place), CANCEL, [m.calculation for _, m in found]
            ):
                claims.cancel(attempt)
        if not as_json:
            if not found:
                print(f"{place.campaign}: no calculation under way fits; nothing to cancel.")
            elif yes:
                print(f"{_count(found)} cancelled.")
            else:
                print(f"{_count(found)} would be cancelled; say --yes to do it.")


Found = list[tuple[dict[str, Any], "Missing"]]


def _under_way(place: Place, query: str) -> Found:
    """What the campaign's decisions under way still miss and `query` fits: its facts, and what is missing.

    Raises QueryError.
    """
    from farfield.db.query import select
    from farfield.db.record import Record
    from farfield.service.runner.recording import open_decisions

    record, campaign = Record(place.database), _id(place)
    missing = {
        m.calculation: m for number in open_decisions(record, campaign) for m in record.missing(campaign, number)
    }
    if not missing:
        select(place.database, query)  # a faulty query is told in any case
        return []
    name = json.dumps(place.campaign)
    text = f"campaign={name}" + (f" and ({query})" if query.strip() else "")
    rows = select(place.database, text, labelled=False, doubted=True).scalars()
    return [
        (
            {
                "key": row.key,
                "formula": row.formula,
                "natoms": row.natoms,
                "role": row.role,
                "cell": None if row.n1 is None else f"{row.n1}x{row.n2}x{row.n3}",
                "missing": list(missing[row.key].kinds),
                "failures": missing[row.key].failures,
                "attempts": list(missing[row.key].open),
            },
            missing[row.key],
        )
        for row in rows
        if row.key in missing
    ]


def _id(place: Place) -> int:
    from farfield.db.record import Record

    stored = Record(place.database).campaign(place.campaign)
    if stored is None:
        raise AssertionError("find() returns campaigns that exist")
    return stored.id


def _list(found: Found, as_json: bool, **facts: bool) -> None:
    if as_json:
        for shown, _ in found:
            print(json.dumps({**shown, **facts}))
        return
    for shown, _ in found[:SHOWN]:
        failed = ", ".join(f"{n} {failure}" for failure, n in shown["failures"].items())
        parts = [
            shown["key"][:10],
            shown["formula"],
            shown["role"] or "",
            shown["cell"] or "",
            ",".join(shown["missing"]),
        ]
        state = "under way" if shown["attempts"] else f"failed: {failed}" if failed else "not begun"
        print("  ".join([*parts, state]))
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")


def _count(found: Found) -> str:
    return f"{len(found)} calculation" + ("" if len(found) == 1 else "s")
