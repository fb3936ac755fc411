"""The one-file HTML report: text, tables and pictures in one self-contained page, read from the database alone."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from farfield import __version__
from farfield.errors import RecordError
from farfield.service.report import tables
from farfield.service.report.convergence import error_against_cost, formation_energy
from farfield.service.report.crystal import phonons
from farfield.service.report.data import CampaignData
from farfield.service.report.loading import load
from farfield.service.report.parity import forces_and_energies
from farfield.service.report.relaxation import relaxation_by_shell, strain_decay
from farfield.service.report.spending import cost_by_kind_and_size
from farfield.service.report.style import image, styled
from farfield.service.report.summary import problem, summary

if TYPE_CHECKING:
    from farfield.db.engine import Database

__all__ = ["FIGURES", "Picture", "render", "write_figures", "write_report"]

LIBRARIES = (
    "numpy",
    "scipy",
    "ase",
    "numba",
    "scikit-learn",
    "spglib",
    "vesin",
    "sqlalchemy",
    "distributed",
    "pydantic",
)

FIGURES: dict[str, tuple[Callable[[CampaignData], Figure], str]] = {
    "error": (error_against_cost, "error estimate against oracle cost"),
    "energy": (formation_energy, "formation energy by round"),
    "decay": (strain_decay, "decay of the strain into the far field"),
    "shells": (relaxation_by_shell, "displacements by neighbour shell"),
    "phonons": (phonons, "phonon dispersion of the host"),
    "parity": (forces_and_energies, "parity of forces and energies"),
    "cost": (cost_by_kind_and_size, "oracle cost by kind and size"),
}
"""Name -> (function of the campaign's data, title), in the order of the page. Captions stand in the template."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page: its anchor, running number, data address and title."""

    name: str
    number: int
    address: str
    title: str


def write_report(database: Database, campaign_name: str, path: str | os.PathLike[str]) -> Path:
    """Write the report of a campaign as one HTML file and return its path.

    A file of that name is replaced at once or not at all. Reads the database only. Raises RecordError for an unknown
    campaign or a path that cannot be written.
    """
    text = render(load(database, campaign_name))
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as fault:
        raise RecordError(f"cannot write the report {target}: {fault.strerror}; give another path") from fault
    return target


def write_figures(data: CampaignData, folder: str | os.PathLike[str]) -> list[Path]:
    """Write each figure as <name>.png (200 dpi) and <name>.pdf into `folder` and return the files.

    Raises RecordError for a folder that cannot be written.
    """
    out: list[Path] = []
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, (draw, _) in FIGURES.items():
            figure = draw(data)
            for kind in ("png", "pdf"):
                out.append(Path(folder) / f"{name}.{kind}")
                with styled():
                    figure.savefig(out[-1], dpi=200)
    except OSError as fault:
        raise RecordError(f"cannot write figures into {folder}: {fault.strerror}; give another folder") from fault
    return out


def render(data: CampaignData) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("farfield.service.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        data=data,
        problem=problem(data),
        summary=summary(data),
        pictures={p.name: p for p in _pictures(data)},
        rounds=tables.rounds(data),
        quantities=tables.quantities(data),
        elastic=tables.elastic_table(data),
        shells=tables.shell_table(data),
        fingerprint=tables.settings(data.fingerprint),
        config=tables.settings(data.config),
        versions=versions(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )


def versions() -> list[tuple[str, str]]:
    """The libraries of the program that writes the page."""
    out = [("farfield", __version__), ("Python", platform.python_version())]
    for name in LIBRARIES:
        try:
            out.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return out


def _pictures(data: CampaignData) -> Iterator[Picture]:
    for number, (name, (draw, title)) in enumerate(FIGURES.items(), 1):
        yield Picture(name, number, image(draw(data)), title)
