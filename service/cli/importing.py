"""`farfield import`: labels that others computed with the campaign's oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from farfield.service.cli.where import FileOption

__all__ = ["import_labels"]


def import_labels(
    files: Annotated[list[Path], typer.Argument(help="Extended XYZ, ase.db, OUTCAR, or whatever ASE reads.")],
    file: FileOption = Path("campaign.toml"),
    form: Annotated[str | None, typer.Option("--format", help="ASE's name of the format.  [default: guessed]")] = None,
    energy_key: Annotated[str | None, typer.Option(help="Name of the energy in the files.")] = None,
    forces_key: Annotated[str | None, typer.Option(help="Name of the forces.")] = None,
    virials_key: Annotated[str | None, typer.Option(help="Name of the virial.")] = None,
    stress_key: Annotated[str | None, typer.Option(help="Name of the stress.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check, and store nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take over labels of the campaign's oracle: cells that the campaign asks for later are then free.

    The oracle is asked again for three of them in each file; where one disagrees beyond its noise nothing of that file
    is imported. What is there already is left as it is. A file may be imported again, or further after a kill.
    """
    from farfield.db.bulk import store_labelled
    from farfield.db.engine import open_database
    from farfield.db.frames import frames
    from farfield.db.sources import file_hash, note_source, open_source
    from farfield.errors import RecordError
    from farfield.oracles.contract import Tolerances
    from farfield.oracles.fingerprint import fingerprint_text
    from farfield.oracles.sandbox import Sandbox
    from farfield.service.cli.counter import counter
    from farfield.service.cli.opening import open_campaign
    from farfield.service.runner.rechecking import chosen, recheck

    config, oracle = open_campaign(file)
    named = {"energy": energy_key, "forces": forces_key, "virials": virials_key, "stress": stress_key}
    keys = {k: v for k, v in named.items() if v is not None}
    fingerprint = json.loads(fingerprint_text(oracle))
    limits = config.oracle
    said: list[dict[str, Any]] = []
    with Sandbox(limits.name, limits.parameters, limits.wall_time, limits.memory, base=config.base) as sandbox:
        for path in files:
            with counter(f"reading {path.name}", as_json) as progress:
                some = chosen(_heard(frames(path, form, keys), progress))
            if not some:
                raise RecordError(f"{path} holds no frame; nothing to import")
            checks = recheck(some, sandbox.evaluate, Tolerances.of(oracle), _noise(config))
            content: dict[str, Any] = {"file": str(path), "rechecked": [c.to_json() for c in checks]}
            if not dry_run:
                url = config.database_url
                if url.startswith("sqlite:///"):
                    Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
                with open_database(url, create=True) as database, counter("stored", as_json) as progress:
                    source = open_source(database, path.name, file_hash(path), fingerprint)
                    for total in store_labelled(database, source, frames(path, form, keys)):
                        progress(100 * (total.new + total.known))
                        counts = {"new": total.new, "known": total.known, "repeated": total.repeated}
                        content |= {**counts, "differences": total.differences, "furthest": total.furthest}
                    note_source(database, source, content)
            said.append(content)
            if not as_json:
                _say(content, dry_run)
    if as_json:
        print(json.dumps(said))


def _heard(found: Any, progress: Any) -> Any:
    for number, frame in enumerate(found, 1):
        progress(number)
        yield frame


def _noise(config: Any) -> Any:
    """What the campaign measured of its oracle's noise, None before it did."""
    from farfield.db.engine import open_database
    from farfield.db.record import Record
    from farfield.service.cli.rounds import stored_rounds

    url = config.database_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return None
    with open_database(url, create=True) as database:
        record = Record(database)
        stored = record.campaign(config.campaign.name)
        rounds = [] if stored is None else stored_rounds(record, stored.id)
    return rounds[-1].noise if rounds else None


def _say(content: dict[str, Any], dry_run: bool) -> None:
    print(f"{content['file']}:")
    for c in content["rechecked"]:
        off = ", ".join(f"{k} {v:.2g}" for k, v in c["differences"].items())
        print(f"  asked again: {c['frame']}, {c['natoms']} atoms: off by {off}; {c['core_seconds']:.2g} core-seconds")
    if dry_run:
        print("  agrees; nothing was stored (--dry-run)")
        return
    print(f"  {content['new']} stored, {content['known']} known already, {content['repeated']} repeated in the file")
    for kind, off in ((k, v) for k, v in content["differences"].items() if v):
        print(f"  {content['furthest'][kind]}: its {kind} is {off:.2g} off the label that was there, which stays")
