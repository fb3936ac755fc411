"""`farfield withdraw`: keep labels that a person knows to be wrong out of every later fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.service.cli.where import DatabaseOption, NameOption, find

__all__ = ["withdraw"]


def withdraw(
    labels: Annotated[list[str], typer.Argument(help="Labels as DECISION/ORDINAL, such as 4/0.")],
    file: Annotated[Path, typer.Option("--file", "-f", help="The campaign file.")] = Path("campaign.toml"),
    database: DatabaseOption = None,
    campaign: NameOption = None,
) -> None:
    """Withdraw labels for good. Their rows stay in the database; the next round is concluded without them."""
    from farfield.db.record import Record
    from farfield.errors import RecordError
    from farfield.service.campaign.observed import FITTED
    from farfield.service.runner.recording import ASKED

    with find(file, database, campaign, readonly=False) as place:
        record = Record(place.database)
        stored = record.campaign(place.campaign)
        if stored is None:
            raise AssertionError("find() returns campaigns that exist")
        known = {f"{d.number}/{p.ordinal}": p for d in record.decisions(stored.id) for p in d.proposals}
        for label in labels:
            if label not in known:
                raise RecordError(f"{place.campaign} has no label {label}; say DECISION/ORDINAL, such as 4/0")
            if known[label].role not in FITTED:
                raise RecordError(f"{label} is a {known[label].role} cell, which is in no fit; nothing to withdraw")
        for label in labels:
            p = known[label]
            text = f"{p.role} cell {label} of {len(p.atoms)} atoms"
            record.event(stored.id, ASKED, text, {"calculation": p.calculation})
            print(f"{place.campaign}: {text} will be out of every later fit; go on with `farfield run`.")
