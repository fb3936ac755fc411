"""`farfield export`: labels in the format of a trainer, with a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from farfield.errors import RecordError
from farfield.service.cli.where import DatabaseOption, FileArgument, NameOption, find, open_record

__all__ = ["export"]


def export(
    file: FileArgument = Path("campaign.toml"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.  [default: RUN FOLDER/dataset.xyz]")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="extxyz, ase, npz, hdf5, parquet, deepmd or phonopy.  [default: by the suffix of --output]",
        ),
    ] = None,
    where: Annotated[str, typer.Option("--where", help="Only what fits this query; see `farfield ls --fields`.")] = "",
    dataset: Annotated[str | None, typer.Option("--dataset", help="A frozen dataset in place of a campaign.")] = None,
    part: Annotated[str | None, typer.Option("--part", help="One part of the dataset's split.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Labels of every campaign in the database.")] = False,
    weights: Annotated[
        str | None, typer.Option("--weights", help="framework: the loss weights of the far field (extxyz).")
    ] = None,
    energy_key: Annotated[str, typer.Option(help="Name of the energy in extxyz.")] = "REF_energy",
    forces_key: Annotated[str, typer.Option(help="Name of the forces.")] = "REF_forces",
    virials_key: Annotated[str, typer.Option(help="Name of the virial.")] = "REF_virials",
    stress_key: Annotated[str, typer.Option(help="Name of the stress.")] = "REF_stress",
    nan: Annotated[
        bool, typer.Option("--nan", help="extxyz: labels that were not computed as nan (NequIP, Allegro; not MACE).")
    ] = False,
    database: DatabaseOption = None,
    campaign: NameOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write labelled structures for a trainer, with a manifest beside them: those of a campaign, or of a dataset.

    Extended XYZ for MACE, NequIP, Allegro, ACEpotentials, pacemaker; also ase.db, npz, HDF5, Parquet (scalars), DeePMD
    npy and phonopy's FORCE_SETS.
    """
    from farfield.db.export import Keys, format_of, of_dataset, of_selection, write
    from farfield.db.query import Selection
    from farfield.service.cli.counter import counter

    if weights not in (None, "framework"):
        raise RecordError(f"there are no weights {weights!r}; say --weights framework, or leave it away")
    if dataset is not None and (where or every):
        raise RecordError("a dataset is what it is: leave --where and --all away, or freeze another one")
    if part is not None and dataset is None:
        raise RecordError("--part is of a dataset; say --dataset too")
    keys = Keys(energy_key, forces_key, virials_key, stress_key, nan)
    if dataset is not None or every:
        record, name, folder = open_record(file, database), None, Path.cwd()
    else:
        place = find(file, database, campaign)
        record, name, folder = place.database, place.campaign, place.folder
    with record, counter("written", as_json) as progress:
        chosen = form or (format_of(output) if output is not None else "extxyz")
        path = output or folder / (
            "dataset" + {"extxyz": ".xyz", "hdf5": ".h5", "ase": ".db"}.get(chosen, f".{chosen}")
        )
        if output is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        origin = (
            of_dataset(record, dataset, part)
            if dataset is not None
            else of_selection(record, Selection(campaign=name, query=where))
        )
        done = write(path, record, origin, chosen, keys=keys, weights=weights is not None, progress=progress)
    if as_json:
        print(json.dumps({"path": str(done.path), "manifest": str(done.manifest), "structures": done.structures}))
    else:
        print(f"{done.path} ({done.structures} structures; manifest {done.manifest.name})")
