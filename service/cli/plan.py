"""`farfield plan`: what the first rounds would buy and cost; with a record, what is before it. Buys nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from farfield.service.campaign.decision import Proposal
    from farfield.service.campaign.problem import Problem

__all__ = ["plan"]

RUNGS = 6
"""How many rungs of the ladder are described."""


def plan(
    file: Annotated[Path, typer.Argument(help="The campaign file.")] = Path("campaign.toml"),
    cells: Annotated[
        Path | None,
        typer.Option(
            help="Where the first cells go, extended XYZ.  [default: RUN FOLDER/plan.xyz; with a record: nowhere]"
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="With a record: draw the forecast against cost into this file (png, pdf, svg).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what the first rounds would buy and cost, and write the first cells; buys nothing.

    Where the campaign is in its database already: how it stands, the forecast of error against cost for the next cells,
    what the tolerance needs, and the next decision with its reason. Nothing is written there.
    """
    from farfield.errors import CampaignError, ConfigError
    from farfield.service.campaign.decision import Decision
    from farfield.service.campaign.loop import Loop
    from farfield.service.campaign.problem import Problem
    from farfield.service.cli.opening import open_campaign
    from farfield.service.cli.prospect import figure as draw
    from farfield.service.cli.prospect import recorded, show, standing, to_json
    from farfield.service.cli.rounds import bought
    from farfield.service.runner.recording import oracle_info

    if figure is not None and figure.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"cannot draw {figure.name}: its ending is no picture's; use .png, .pdf or .svg")
    config, oracle = open_campaign(file)
    if (database := recorded(config)) is not None:
        with database:
            found = standing(config, oracle, database)
            if figure is not None:
                draw(found, database, figure)
        if cells is not None and found.prospect.open:
            _write(found.prospect.open, cells)
        if as_json:
            print(json.dumps(to_json(found, config)))
        else:
            show(found, config, file)
        return
    if figure is not None:
        raise CampaignError("there is no record to draw a forecast from; start the campaign with `farfield run`")
    first = Loop(config, oracle_info(oracle)).ask()
    if not isinstance(first, Decision):
        raise CampaignError(f"nothing to buy: {first.reason}")
    path = cells if cells is not None else config.folder / "plan.xyz"
    _write(first.proposals, path)
    steps = [
        {
            "what": first.reason,
            "cells": bought(first.proposals)[0],
            "buys": bought(first.proposals)[1],
            "atoms": max(len(p.atoms) for p in first.proposals),
            "calls": len(first.proposals),
            "core_seconds": sum(oracle.cost(len(p.atoms)) for p in first.proposals),
        },
        *_ladder(
            Problem(config), oracle.cost, "V" in oracle.supports, nondiagonal=oracle.analytic and oracle.mesh == "none"
        ),
    ]
    if as_json:
        print(json.dumps({"steps": steps, "cells": str(path), "target_atoms": Problem(config).target.natoms}))
        return
    _show(steps, path, Problem(config).target.natoms, file, config.defect.words if config.defect.file else "")


def _write(proposals: Iterable[Proposal], path: Path) -> None:
    """The cells of `proposals` as extended XYZ."""
    from ase.io import write

    path.parent.mkdir(parents=True, exist_ok=True)
    images = []
    for p in proposals:
        atoms = p.atoms.copy()
        atoms.info = {
            "config_type": p.role,
            "term": p.term,
            "kinds": "".join(p.kinds),
            "rung": "{}x{}x{}".format(*p.rung),
        }
        images.append(atoms)
    write(path, images, format="extxyz")


def _ladder(
    problem: Problem, cost: Callable[[int], float], virials: bool, *, nondiagonal: bool
) -> list[dict[str, Any]]:
    """The steps after the first decision as they are expected; the estimate decides how far they go."""
    from farfield.service.cells import next_rung
    from farfield.service.cells.ladder import reaches
    from farfield.service.proposals.opening import force_constant_cells, strain_count

    kinds = "EFV" if virials else "EF"
    out: list[dict[str, Any]] = []

    def step(what: str, size: tuple[int, int, int], natoms: int, buys: str, calls: int) -> None:
        out.append(
            {
                "what": what,
                "cells": "{}x{}x{}".format(*size),
                "buys": buys,
                "atoms": natoms,
                "calls": calls,
                "core_seconds": calls * cost(natoms),
            }
        )

    first = problem.first_size
    training = problem.cell(first).natoms
    step("start: two rattled training cells", first, training, f"2 {kinds}", 2)
    fc_size = problem.fc_size(nondiagonal=nondiagonal)
    displaced = list(force_constant_cells(problem.host, fc_size, 0.01, "FC tail", nondiagonal=nondiagonal))
    atoms = max(len(c[0]) for c in displaced)
    step("start: force constants", fc_size, atoms, f"{len(displaced)} FC", len(displaced))
    if virials:
        strained = strain_count(problem.host)
        step("start: strained cells", (1, 1, 1), problem.host.nb, f"{strained} FV", strained)
    size = first
    for _ in range(RUNGS):
        size = next_rung(problem.host, size)
        if reaches(size, problem.target.size):
            break
        step("if the tolerance is not met: verify", size, problem.cell(size).natoms, f"1 {kinds}", 1)
    return out


def _show(steps: list[dict[str, Any]], path: Path, target: int, file: Path, defect: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, justify in (
        ("cells", "left"),
        ("atoms", "right"),
        ("buys", "left"),
        ("core-s", "right"),
        ("why", "left"),
    ):
        table.add_column(head, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for s in steps:
        table.add_row(s["cells"], str(s["atoms"]), s["buys"], f"{s['core_seconds']:.3g}", s["what"])
    console = Console()
    console.print(table)
    known = steps[:4] if len(steps) > 4 else steps
    console.print(
        f"The opening costs about {sum(s['core_seconds'] for s in known):.3g} core-s by the oracle's own hint; each "
        f"verified rung adds its line. The target cell ({target} atoms) is never given to the oracle.",
        highlight=False,
    )
    if defect:
        console.print(f"The defect file holds {defect}.", highlight=False)
    console.print(
        f"First cells: {path}. Nothing was bought; next: farfield run {file}", highlight=False, soft_wrap=True
    )
