"""The manifest of an export: what it holds, of which oracle, in which units, by which query."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import select

import farfield
from farfield.db import schema
from farfield.db.engine import Database
from farfield.db.export.config_types import config_type
from farfield.db.export.origin import Origin
from farfield.db.query import Labelled
from farfield.errors import RecordError

__all__ = ["Summary", "hash_of"]


class Summary:
    """What the manifest says of the rows, gathered while they stream by."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.structures = self.atoms = self.withdrawn = 0
        self.keys = hashlib.sha256()
        self.kinds: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.formulas: Counter[str] = Counter()
        self.partial = 0
        self.fingerprint: str | None = None

    def add(self, row: Labelled) -> None:
        """Count a row in. Raises RecordError where its oracle is another one than that of the rows before."""
        if self.fingerprint is not None and self.fingerprint != row.fingerprint:
            mend = (
                "select one of its oracles by fingerprint"
                if self.origin.said.get("selection", {}).get("campaign") is not None
                else "select a campaign"
            )
            names = f"{self.fingerprint[:12]} and {row.fingerprint[:12]}"
            raise RecordError(f"the labels are of more than one oracle ({names}), which no fit may mix; {mend}")
        self.fingerprint = row.fingerprint
        self.structures += 1
        self.atoms += len(row.structure_atoms())
        self.keys.update(f"{row.calculation}\n".encode())
        self.kinds.update(row.labels.kinds)
        self.partial += row.labels.kinds != ("E", "F", "V")
        self.types[config_type(row.role)] += 1
        self.formulas[row.formula] += 1

    def manifest(self, database: Database, path: Path, name: str, form: str, more: dict[str, Any]) -> dict[str, Any]:
        """The whole manifest of what was written at `path` and will be called `name`."""
        o = schema.oracle.c
        with database.read() as connection:
            fingerprint = connection.scalars(select(o.fingerprint).where(o.fingerprint_hash == self.fingerprint)).one()
        return {
            "format": form,
            "file": name,
            "sha256": hash_of(path),
            "calculations_sha256": self.keys.hexdigest(),
            "structures": self.structures,
            "atoms": self.atoms,
            "withdrawn": self.withdrawn,
            "labels": {kind: self.kinds[kind] for kind in ("E", "F", "V")},
            "partially_labelled": self.partial,
            "config_types": dict(sorted(self.types.items())),
            "formulas": dict(sorted(self.formulas.items())),
            **more,
            "oracle": {"fingerprint": fingerprint, "sha256": self.fingerprint},
            **self.origin.said,
            "schema_revision": schema.REVISION,
            "farfield": farfield.__version__,
        }


def hash_of(path: Path) -> str:
    """sha256 of a file, or of the names and hashes of all files below a folder in order, hexadecimal."""
    hashed = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            hashed.update(f"{file.relative_to(path).as_posix()} {hash_of(file)}\n".encode())
        return hashed.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()
