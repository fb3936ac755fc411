"""Write an export: rows stream into a writer beside the place, and appear there whole, with their manifest."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from farfield.db.engine import Database
from farfield.db.export.extxyz import Keys
from farfield.db.export.formats import FORMATS
from farfield.db.export.links import linked
from farfield.db.export.manifest import Summary
from farfield.db.export.origin import Origin, of_selection
from farfield.db.export.weights import framework
from farfield.db.query import Selection
from farfield.errors import RecordError

__all__ = ["Exported", "manifest_of", "write", "write_extxyz"]


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
    """Write the rows of `origin` to `path` in the format `form`, with a manifest beside it (`manifest_of`).

    `keys`: names of the labels in extended XYZ. `weights`: the framework's loss weights for every configuration
    (extended XYZ). Raises RecordError when nothing is selected, when the labels are of several oracles, when the format
    cannot hold a row, or when the place cannot be written; then nothing is there that was not before.
    """
    if form not in FORMATS:
        raise RecordError(f"there is no format {form!r}; the formats are {', '.join(FORMATS)}")
    if weights and not FORMATS[form].weights:
        raise RecordError(f"the format {form} holds no weights; use extxyz")
    path = Path(path)
    _spare_the_record(path, database)
    manifest = manifest_of(path, form)
    if path.exists():
        _refuse_foreign(path, manifest)
    part, summary = path.with_name(f"{path.name}.{os.getpid()}.part"), Summary(origin)
    found = framework(database, origin) if weights else None
    if not path.parent.is_dir():
        raise RecordError(f"cannot write {path} (there is no such folder); choose another place with --output")
    _clear(part)
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
        except BaseException:
            with suppress(Exception):  # a writer that failed may fail again; the first fault is the one to tell
                writer.close()
            raise
        writer.close()
        more: dict[str, Any] = writer.said()
        if found is not None:
            more["weights"] = found.said()
        content = summary.manifest(database, part, path.name, FORMATS[form].title, more)
        note = part.with_name(part.name + ".json")
        note.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for written in (*part.rglob("*"), part, note):
            _sync(written)
        _place(part, path)
        note.replace(manifest)
        _sync(path.parent)
    except OSError as fault:
        why = fault.strerror or (str(fault).splitlines() or ["no reason given"])[0]
        raise RecordError(f"cannot write {path} ({why}); choose another place with --output") from fault
    finally:
        _clear(part)
    return Exported(path, manifest, summary.structures)


def write_extxyz(path: Path, database: Database, selection: Selection | None = None, **filters: Any) -> Exported:
    """Write a `Selection` of labels (or its fields as keywords) as extended XYZ; see `write`.

    Labels that were withdrawn or belong to another electronic state are left out, and counted in the manifest.
    """
    return write(path, database, of_selection(database, selection or Selection(**filters)))


def manifest_of(path: Path, form: str = "extxyz") -> Path:
    """Where the manifest of an export lies: ``data.manifest.json`` for ``data.xyz``, else with the whole name, so that
    two formats of one name keep theirs apart."""
    return path.with_name((path.stem if form == "extxyz" and path.suffix == ".xyz" else path.name) + ".manifest.json")


def _spare_the_record(path: Path, database: Database) -> None:
    """An export never takes the place of the database that it reads."""
    if database.dialect != "sqlite":
        return
    record = Path(str(make_url(database.shown).database))
    if path.exists() and record.exists() and path.samefile(record):
        raise RecordError(f"{path} is the database itself; choose another place with --output")


def _place(part: Path, path: Path) -> None:
    """Rename `part` to `path`; a folder that is there is set aside first, and removed when the new one stands."""
    if not path.is_dir():
        part.replace(path)
        return
    old = part.with_name(part.name + ".old")
    path.rename(old)
    try:
        part.rename(path)
    except BaseException:
        old.rename(path)
        raise


def _clear(part: Path) -> None:
    """Remove `part` and what lies beside it under its name (a journal, a manifest, a folder set aside)."""
    for left in part.parent.glob(glob.escape(part.name) + "*"):
        _remove(left)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_foreign(path: Path, manifest: Path) -> None:
    """A folder is only replaced where it is an export of ours."""
    if not path.is_dir():
        return
    try:
        ours = manifest.exists() and json.loads(manifest.read_text(encoding="utf-8")).get("file") == path.name
    except ValueError:
        ours = False
    if not ours:
        raise RecordError(f"{path} is a folder that no export of ours made; choose another place with --output")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
