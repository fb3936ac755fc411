"""`farfield oracle list` and `check`: the oracles that are installed, and one of them against the contract."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from farfield.service.cli.check import check

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Oracles: the reference methods.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    pass


app.command("check")(check)


@app.command("list")
def list_oracles(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the installed oracles."""
    from farfield.oracles import registry

    found = registry.available()
    if as_json:
        print(json.dumps([asdict(o) for o in found.values()]))
        return
    for o in found.values():
        print(f"{o.name:<12} {o.target:<45} {o.description}")
