"""`farfield init`: a commented campaign file from flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from farfield.errors import ConfigError

__all__ = ["init"]


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("campaign.toml"),
    name: Annotated[str | None, typer.Option(help="Name of the campaign.  [default: the file's]")] = None,
    species: Annotated[str, typer.Option(help="Host species, comma-separated.")] = "Cu",
    lattice: Annotated[str, typer.Option(help="fcc, bcc, diamond, zincblende, rocksalt or b2.")] = "fcc",
    lattice_constant: Annotated[float | None, typer.Option(help="Å.  [default: from the oracle]")] = None,
    defect: Annotated[str, typer.Option(help="vacancy, interstitial or substitution.")] = "vacancy",
    defect_species: Annotated[str | None, typer.Option(help="Element put in.")] = None,
    site: Annotated[int | None, typer.Option(help="Index in the conventional cell.")] = None,
    position: Annotated[str | None, typer.Option(help="Interstitial: a name such as octahedral, or x,y,z.")] = None,
    size: Annotated[int | None, typer.Option(help="Target cell, conventional cells per edge.")] = None,
    tol_geo: Annotated[float | None, typer.Option(help="Tolerance of the geometry, Å.")] = None,
    tol_energy: Annotated[float | None, typer.Option(help="Tolerance of the formation energy, eV.")] = None,
    oracle: Annotated[str, typer.Option(help="Name of the oracle; see `farfield oracle list`.")] = "emt",
    parameter: Annotated[list[str] | None, typer.Option(help="Oracle parameter KEY=VALUE (JSON or text).")] = None,
    reference: Annotated[list[str] | None, typer.Option(help="Reference energy SPECIES=EV per atom.")] = None,
    seed: Annotated[int | None, typer.Option(help="The campaign's seed.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Write a commented campaign file."""
    from farfield.oracles.registry import check_name
    from farfield.service.campaign.config import CampaignConfig

    if file.exists() and not force:
        raise ConfigError(f"{file} exists; name another file or say --force")
    values: dict[str, Any] = {
        "campaign.name": name or file.stem,
        "campaign.seed": seed,
        "host.species": [s.strip() for s in species.split(",")],
        "host.lattice": lattice,
        "host.lattice_constant": lattice_constant,
        "defect.kind": defect,
        "defect.species": defect_species,
        "defect.site": site,
        "defect.position": None if position is None else _position(position),
        "target.size": size,
        "target.tol_geo": tol_geo,
        "target.tol_energy": tol_energy,
        "oracle.name": oracle,
        "oracle.parameters": {k: _json(v) for k, v in map(_pair, parameter or [])} or None,
    }
    values |= {f"references.{k}": _json(v) for k, v in map(_pair, reference or [])}
    check_name(oracle)
    text = CampaignConfig.template({k: v for k, v in values.items() if v is not None})
    file.write_text(text, encoding="utf-8")
    print(f"wrote {file}; next: farfield plan {file}, then farfield run {file}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"{text!r} is not KEY=VALUE; write for example kpts=4")
    return key, value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _position(text: str) -> Any:
    try:
        return [float(x) for x in text.split(",")]
    except ValueError:
        return text
