"""Write an export: rows stream into a writer beside the place, and appear there whole, with their manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farfield.db.engine import Database
from farfield.db.export.extxyz import Keys
from farfield.db.export.formats import FORMATS
from farfield.db.export.links import linked
from farfield.db.export.manifest import Summary
from farfield.db.export.origin import Origin, of_selection
from farfield.db.export.weights import framework
from farfield.db.query import Selection
from farfield.errors import RecordError

__all__ = ["Exported", "write", "write_extxyz"]


@dataclass(frozen=True)
class Exported:
    """What was written: the file or folder, its manifest, and how many structures."""

    path: Path
    manifest: Path
    structures: int


def write(
    path: Path,
    database: Database,
    origin: Origin,
    form: str = "extxyz",
    *,
    keys: Keys | None = None,
    weights: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Write the rows of `origin` to `path` in the format `form`, and ``<path stem>.manifest.json`` beside it.

    `keys`: names of the labels in extended XYZ. `weights`: the framework's loss weights for every configuration
    (extended XYZ). Raises RecordError when nothing is selected, when the labels are of several oracles, when the format
    cannot hold a row, or when the place cannot be written; then nothing is there that was not before.
    """
    if form not in FORMATS:
        raise RecordError(f"there is no format {form!r}; the formats are {', '.join(FORMATS)}")
    if weights and not FORMATS[form].weights:
        raise RecordError(f"the format {form} holds no weights; use extxyz")
    path = Path(path)
    part, summary = path.with_name(path.name + ".part"), Summary(origin)
    found = framework(database, origin) if weights else None
    if not path.parent.is_dir():
        raise RecordError(f"cannot write {path} (there is no such folder); choose another place with --output")
    _remove(part)
    try:
        writer = FORMATS[form].open(part, keys or Keys(), database)
        try:
            for row, link in linked(database, origin.rows()):
                if row.calculation in origin.left_out:
                    summary.withdrawn += 1
                    continue
                if FORMATS[form].displaced and (link is None or row.labels.forces is None):
                    continue
                summary.add(row)
                writer.add(row, link, None if found is None else found.of(row, link))
                if progress is not None:
                    progress(summary.structures)
            if not summary.structures:
                what = "no displaced cell of a force-constant column" if FORMATS[form].displaced else "no label"
                raise RecordError(f"nothing to export: {what} matches; `farfield summary` shows what there is")
        finally:
            writer.close()
        more: dict[str, Any] = writer.said()
        if found is not None:
            more["weights"] = found.said()
        manifest = path.with_name(path.stem + ".manifest.json")
        content = summary.manifest(database, part, path.name, FORMATS[form].title, more)
        if path.is_dir():
            _refuse_foreign(path, manifest)
            _remove(path)
        part.replace(path)
        note = manifest.with_name(manifest.name + ".part")
        note.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        note.replace(manifest)
    except OSError as fault:
        raise RecordError(f"cannot write {path} ({fault.strerror}); choose another place with --output") from fault
    finally:
        _remove(part)
    return Exported(path, manifest, summary.structures)


def write_extxyz(path: Path, database: Database, selection: Selection | None = None, **filters: Any) -> Exported:
    """Write a `Selection` of labels (or its fields as keywords) as extended XYZ; see `write`.

    Labels that were withdrawn or belong to another electronic state are left out, and counted in the manifest.
    """
    return write(path, database, of_selection(database, selection or Selection(**filters)))


def _refuse_foreign(path: Path, manifest: Path) -> None:
    """A folder is only replaced where it is an export of ours."""
    if not manifest.exists() or json.loads(manifest.read_text(encoding="utf-8")).get("file") != path.name:
        raise RecordError(f"{path} is a folder that no export of ours made; choose another place with --output")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
