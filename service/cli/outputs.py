"""What a campaign leaves in its run folder: report, dataset with manifest, and the fitted surrogate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farfield.errors import RecordError

if TYPE_CHECKING:
    from farfield.db.engine import Database

__all__ = ["DATASET", "REPORT", "SURROGATE", "write_dataset", "write_outputs", "write_surrogate"]

REPORT, DATASET, SURROGATE = "report.html", "dataset.xyz", "surrogate.farfield"


def write_outputs(database: Database, campaign: str, folder: Path) -> list[str]:
    """Write all three into `folder`; one line each on what lies where. What cannot be written yet is left out.

    An oracle whose answers contradict each other leaves no dataset: nobody should train on it by mistake.
    """
    from farfield.db.record import Record
    from farfield.service.report import write_report

    stored = Record(database).campaign(campaign)
    contradicts = stored is not None and (stored.ending or "").startswith("bad answer")
    lines = []
    writers = (
        ("dataset", lambda: write_dataset(database, campaign, folder / DATASET)),
        ("surrogate", lambda: write_surrogate(database, campaign, folder / SURROGATE)),
        ("report", lambda: write_report(database, campaign, folder / REPORT)),
    )
    for name, write in writers:
        try:
            if contradicts and name == "dataset":
                raise RecordError("the oracle contradicts itself; `farfield export` writes its labels all the same")
            text = write()
        except RecordError as fault:
            text = f"not written: {fault}"
        lines.append(f"{name:<10} {text or folder / REPORT}")
    return lines


def write_dataset(database: Database, campaign: str, path: Path) -> str:
    """The labelled structures as extended XYZ with a manifest; what was written, for people."""
    from farfield.db.export import write_extxyz

    done = write_extxyz(path, database, campaign=campaign)
    return f"{done.path} ({done.structures} structures; manifest {done.manifest.name})"


def write_surrogate(database: Database, campaign: str, path: Path) -> str:
    """The surrogate of the last round in a file that loads as an ASE calculator; what was written, for people."""
    from farfield.db.record import Record

    record = Record(database)
    stored = record.campaign(campaign)
    if stored is None:
        raise RecordError(f"no campaign {campaign!r} in the database; see `farfield status`")
    part = path.with_name(path.name + ".part")
    part.write_bytes(record.model(stored.id))
    part.replace(path)
    return f"{path} (ASE: SurrogateCalculator(Surrogate.load(file)) of farfield.service.surrogate)"
