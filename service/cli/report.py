"""`farfield report`: the one-file HTML report of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find

__all__ = ["report"]


def report(
    file: FileArgument = Path("campaign.toml"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.  [default: RUN FOLDER/report.html]")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Also write each figure as PNG and PDF into this folder.")
    ] = None,
    database: DatabaseOption = None,
    campaign: NameOption = None,
) -> None:
    """Write the report: error estimate against oracle cost, the framework's quantities per round, and more."""
    from farfield.service.report import load, write_figures, write_report

    with find(file, database, campaign) as place:
        path = output or place.folder / "report.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(place.database, place.campaign, path)
        print(f"wrote {path}")
        if figures is not None:
            for written in write_figures(load(place.database, place.campaign), figures):
                print(f"wrote {written}")
