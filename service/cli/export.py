"""`farfield export`: the labelled structures as extended XYZ, with a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

__all__ = ["export"]


def export(
    file: FileArgument = Path("campaign.toml"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.  [default: RUN FOLDER/dataset.xyz]")
    ] = None,
    database: DatabaseOption = None,
    campaign: NameOption = None,
) -> None:
    """Write every labelled structure of the campaign as extended XYZ, with a manifest beside it."""
    from farfield.service.cli.outputs import write_dataset

    with find(file, database, campaign) as place:
        path = output or place.folder / "dataset.xyz"
        path.parent.mkdir(parents=True, exist_ok=True)
        print(write_dataset(place.database, place.campaign, path))
