"""Write labels for trainers: extended XYZ with REF_ keys and 17 significant digits, and a JSON manifest beside it.

Keys start with REF_, since ASE takes plain `energy` and `forces` into a calculator, where trainers do not look. Forces
are raw. REF_stress = -REF_virials / volume; both are written as symmetric 3x3 matrices.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from sqlalchemy import select

import farfield
from farfield.db import schema
from farfield.db.campaigns import kept_out
from farfield.db.engine import Database
from farfield.db.labels import Array
from farfield.db.query import Labelled, Selection, select_labelled
from farfield.errors import RecordError
from farfield.oracles.observation import VOIGT

__all__ = ["Exported", "extxyz", "write_extxyz"]

UNITS = {
    "positions": "Å",
    "Lattice": "Å",
    "REF_energy": "eV, total; the functional whose gradient REF_forces is",
    "REF_forces": "eV/Å, -dE/dr, raw",
    "REF_virials": "eV, total, -dE/d(strain) = -volume * stress",
    "REF_stress": "eV/Å^3, -REF_virials / volume, positive under tension",
    "initial_magmoms": "Bohr magnetons, as given to the oracle",
}


@dataclass(frozen=True)
class Exported:
    """What was written: the file, its manifest, and how many structures."""

    path: Path
    manifest: Path
    structures: int


def extxyz(row: Labelled) -> str:
    """One structure with the labels it has, as extended XYZ text. Numbers round-trip bit for bit."""
    atoms, known = row.structure_atoms(), row.labels
    fields = {
        "Lattice": _quoted(atoms.cell.array.ravel()),
        "Properties": "species:S:1:pos:R:3"
        + (f":initial_magmoms:R:{_moments(atoms).shape[1]}" if atoms.has("initial_magmoms") else "")
        + (":REF_forces:R:3" if known.forces is not None else ""),
        "pbc": '"' + " ".join("T" if p else "F" for p in atoms.pbc) + '"',
    }
    if known.energy is not None:
        fields["REF_energy"] = _number(known.energy)
    if known.virial is not None:
        fields["REF_virials"] = _quoted(_matrix(known.virial).ravel())
        fields["REF_stress"] = _quoted(-_matrix(known.virial).ravel() / atoms.get_volume())
    fields["config_type"] = json.dumps(row.role or "other", ensure_ascii=False)
    if row.decision is not None:
        fields["farfield_decision"], fields["farfield_ordinal"] = str(row.decision), str(row.ordinal)
    fields["farfield_calculation"] = row.calculation
    head = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{len(atoms)}\n{head}\n" + "".join(f"{line}\n" for line in _lines(atoms, known.forces))


def write_extxyz(path: Path, database: Database, selection: Selection | None = None, **filters: Any) -> Exported:
    """Write a `Selection` of labels to `path` and its manifest to ``<path stem>.manifest.json``; either appears whole.

    Labels that were withdrawn or belong to another electronic state are left out, and counted in the manifest.
    Raises RecordError when nothing is selected, when the labels are of more than one oracle, or when the file cannot be
    written.
    """
    wanted = selection or Selection(**filters)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    summary = _Summary(wanted)
    with database.read() as connection:
        out = set() if wanted.doubted else kept_out(connection, wanted.campaign)
    try:
        with part.open("w", encoding="utf-8", newline="\n") as stream:
            for row in select_labelled(database, replace(wanted, doubted=True)):
                if row.calculation in out:
                    summary.withdrawn += 1
                    continue
                text = extxyz(row)
                summary.add(row, text)
                stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if not summary.structures:
            raise RecordError("nothing to export: no label matches; see `farfield status` for what there is")
        manifest = path.with_name(path.stem + ".manifest.json")
        content = _manifest(database, summary, path.name)
        part.replace(path)
        note = manifest.with_name(manifest.name + ".part")
        note.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        note.replace(manifest)
    except OSError as fault:
        raise RecordError(f"cannot write {path} ({fault.strerror}); choose another place with --output") from fault
    finally:
        part.unlink(missing_ok=True)
    return Exported(path, manifest, summary.structures)


class _Summary:
    """What the manifest says of the rows, gathered while they stream by."""

    def __init__(self, wanted: Selection) -> None:
        self.wanted = wanted
        self.structures = self.atoms = self.withdrawn = 0
        self.content, self.keys = hashlib.sha256(), hashlib.sha256()
        self.kinds: Counter[str] = Counter()
        self.roles: Counter[str] = Counter()
        self.formulas: Counter[str] = Counter()
        self.fingerprint: str | None = None

    def add(self, row: Labelled, text: str) -> None:
        if self.fingerprint is not None and self.fingerprint != row.fingerprint:
            mend = (
                "select one of its oracles by fingerprint" if self.wanted.campaign is not None else "select a campaign"
            )
            names = f"{self.fingerprint[:12]} and {row.fingerprint[:12]}"
            raise RecordError(f"the labels are of more than one oracle ({names}), which no fit may mix; {mend}")
        self.fingerprint = row.fingerprint
        self.structures += 1
        self.atoms += int(text[: text.index("\n")])
        self.content.update(text.encode())
        self.keys.update(f"{row.calculation}\n".encode())
        self.kinds.update(row.labels.kinds)
        self.roles[row.role or "other"] += 1
        self.formulas[row.formula] += 1


def _manifest(database: Database, summary: _Summary, name: str) -> dict[str, Any]:
    o = schema.oracle.c
    with database.read() as connection:
        fingerprint = connection.scalars(select(o.fingerprint).where(o.fingerprint_hash == summary.fingerprint)).one()
    return {
        "format": "farfield extended XYZ 1",
        "file": name,
        "sha256": summary.content.hexdigest(),
        "calculations_sha256": summary.keys.hexdigest(),
        "structures": summary.structures,
        "atoms": summary.atoms,
        "withdrawn": summary.withdrawn,
        "labels": {kind: summary.kinds[kind] for kind in ("E", "F", "V")},
        "config_types": dict(sorted(summary.roles.items())),
        "formulas": dict(sorted(summary.formulas.items())),
        "units": UNITS,
        "missing_labels": "a key that is absent was not computed",
        "oracle": {"fingerprint": fingerprint, "sha256": summary.fingerprint},
        "selection": {k: v for k, v in asdict(summary.wanted).items() if v is not None},
        "schema_revision": schema.REVISION,
        "farfield": farfield.__version__,
    }


def _lines(atoms: Atoms, forces: Array | None) -> Iterator[str]:
    blocks = [atoms.positions]
    if atoms.has("initial_magmoms"):
        blocks.append(_moments(atoms))
    if forces is not None:
        blocks.append(forces)
    for symbol, numbers in zip(atoms.symbols, np.hstack(blocks), strict=True):
        yield f"{symbol:2} " + " ".join(f"{_number(x):>24}" for x in numbers)


def _moments(atoms: Atoms) -> Array:
    """Initial moments, (N, 1) or (N, 3)."""
    return np.asarray(atoms.get_initial_magnetic_moments(), float).reshape(len(atoms), -1)


def _matrix(voigt: Array) -> Array:
    """(6,) Voigt xx yy zz yz xz xy to a symmetric (3, 3)."""
    out = np.zeros((3, 3))
    for value, (i, j) in zip(voigt, VOIGT, strict=True):
        out[i, j] = out[j, i] = value
    return out


def _quoted(numbers: Array) -> str:
    return '"' + " ".join(_number(x) for x in numbers) + '"'


def _number(x: float) -> str:
    """17 significant digits: enough for every float64 to come back as it was."""
    text = f"{float(x):.17g}"
    return text if "." in text or "e" in text else text + ".0"  # readers take 3 for an integer
