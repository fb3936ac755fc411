"""Extended XYZ with 17 significant digits, as MACE, NequIP, Allegro, ACEpotentials and others read it.

Keys start with REF_ by default, since ASE takes plain `energy` and `forces` into a calculator, where trainers do not
look. Forces are raw. REF_stress = -REF_virials / volume; both are symmetric 3x3 matrices. A label that was not computed
has no key, and its weight is 0 where weights are written.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from farfield.db.engine import Database
from farfield.db.export.config_types import config_type
from farfield.db.export.links import Link
from farfield.db.export.weights import Weighed
from farfield.db.labels import Array
from farfield.db.query import Labelled
from farfield.errors import RecordError
from farfield.oracles.observation import VOIGT

__all__ = ["ExtxyzWriter", "Keys", "extxyz"]

RESERVED = {
    *("lattice", "properties", "pbc", "cell", "species", "symbols", "pos", "positions", "z", "numbers", "tags"),
    *("initial_magmoms", "magmoms", "initial_charges", "charges", "masses", "momenta", "velo", "move_mask"),
}
"""Names that extended XYZ or ASE give another meaning, in lower case."""
MEANT = {"free_energy": "energy", "force": "forces", "virial": "virials"}
"""Names that mean one label to readers, beside the labels' own."""


@dataclass(frozen=True)
class Keys:
    """Names of the labels in the file. Raises RecordError for names that the format, or each other, cannot bear.

    `nan`: a label that was not computed is written as nan, in place of no key. NequIP and Allegro batch cells of
    the same keys only, and leave nan out of their losses by `ignore_nan: true`; MACE must not see it.
    """

    energy: str = "REF_energy"
    forces: str = "REF_forces"
    virials: str = "REF_virials"
    stress: str = "REF_stress"
    nan: bool = False

    def __post_init__(self) -> None:
        names = list(self.names.values())
        for label, name in self.names.items():
            meant = MEANT.get(name.lower(), name.lower())
            if meant in self.names and meant != label:
                raise RecordError(f"readers would take {name!r} for the {meant}, not the {label}; choose another name")
            if (
                name.startswith(("config_", "farfield_"))
                or not name.replace("_", "a").isalnum()
                or not name.isascii()
                or name.lower() in RESERVED
                or name[0].isdigit()
            ):
                raise RecordError(f"{name!r} cannot name a label; use letters, digits and _, such as REF_energy")
        if len({n.lower() for n in names}) < len(names):  # ACEpotentials compares without case
            raise RecordError(f"two labels have the same name among {', '.join(names)}; give each its own")

    @property
    def names(self) -> dict[str, str]:
        """By label, its name in the file."""
        return {"energy": self.energy, "forces": self.forces, "virials": self.virials, "stress": self.stress}

    def units(self) -> dict[str, str]:
        """What each name means."""
        return {
            "positions": "Å",
            "Lattice": "Å",
            self.energy: f"eV, total; the functional whose gradient {self.forces} is",
            self.forces: "eV/Å, -dE/dr, raw",
            self.virials: "eV, total, -dE/d(strain) = -volume * stress",
            self.stress: f"eV/Å^3, -{self.virials} / volume, positive under tension",
            "initial_magmoms": "Bohr magnetons, as given to the oracle",
            "farfield_step": "Å, signed displacement of a cell of a force-constant column",
        }


def extxyz(row: Labelled, keys: Keys | None = None, link: Link | None = None, weighed: Weighed | None = None) -> str:
    """One structure with the labels it has, as extended XYZ text. Numbers round-trip bit for bit."""
    atoms, known, keys = row.structure_atoms(), row.labels, keys or Keys()
    forces = np.full((len(atoms), 3), np.nan) if known.forces is None and keys.nan else known.forces
    fields = {
        "Lattice": _quoted(atoms.cell.array.ravel()),
        "Properties": "species:S:1:pos:R:3"
        + (f":initial_magmoms:R:{_moments(atoms).shape[1]}" if atoms.has("initial_magmoms") else "")
        + (f":{keys.forces}:R:3" if forces is not None else ""),
        "pbc": '"' + " ".join("T" if p else "F" for p in atoms.pbc) + '"',
    }
    if known.energy is not None:
        fields[keys.energy] = _number(known.energy)
    if known.virial is not None:
        fields[keys.virials] = _quoted(_matrix(known.virial).ravel())
        if atoms.cell.rank == 3:
            fields[keys.stress] = _quoted(-_matrix(known.virial).ravel() / atoms.get_volume())
    if keys.nan:
        fields.setdefault(keys.energy, "nan")
        for name in (keys.virials, keys.stress):
            fields.setdefault(name, _quoted(np.full(9, np.nan)))
    fields["config_type"] = _word(config_type(row.role))
    if weighed is not None:
        for name, value in asdict(weighed).items():
            fields[f"config_{name}_weight"] = _number(value)
    if row.role is not None:
        fields["farfield_role"] = _word(row.role)
    if row.part is not None:
        fields["farfield_part"] = _word(row.part)
    if row.decision is not None:
        fields["farfield_decision"], fields["farfield_ordinal"] = str(row.decision), str(row.ordinal)
    if link is not None:
        fields["farfield_fc"], fields["farfield_step"] = str(link.column), _number(link.step)
        if link.partner is not None:
            fields["farfield_partner"] = link.partner
    fields["farfield_calculation"] = row.calculation
    head = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{len(atoms)}\n{head}\n" + "".join(f"{line}\n" for line in _lines(atoms, forces))


class ExtxyzWriter:
    """Writes rows as they come."""

    def __init__(self, part: Path, keys: Keys, database: Database) -> None:
        self._stream, self._keys = part.open("w", encoding="utf-8", newline="\n"), keys
        self._weights: dict[str, Counter[str]] = {}

    def add(self, row: Labelled, link: Link | None, weighed: Weighed | None) -> None:
        """Write one row."""
        self._stream.write(extxyz(row, self._keys, link, weighed))
        if weighed is not None:
            mean = self._weights.setdefault(config_type(row.role), Counter())
            mean.update(n=1, **{k: v for k, v in asdict(weighed).items()})

    def close(self) -> None:
        """Bring everything to the disk."""
        if not self._stream.closed:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()

    def said(self) -> dict[str, Any]:
        """Names, units, how a missing label looks; mean weights by config_type, as tables by type want them."""
        out: dict[str, Any] = {
            "keys": self._keys.names,
            "units": self._keys.units(),
            "missing_labels": "nan was not computed" if self._keys.nan else "a key that is absent was not computed",
        }
        if self._weights:
            out["weights_by_config_type"] = {
                name: {"E": c["energy"] / c["n"], "F": c["forces"] / c["n"], "V": c["virials"] / c["n"]}
                for name, c in sorted(self._weights.items())
            }
        return out


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


def _word(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _quoted(numbers: Array) -> str:
    return '"' + " ".join(_number(x) for x in numbers) + '"'


def _number(x: float) -> str:
    """17 significant digits: enough for every float64 to come back as it was."""
    text = f"{float(x):.17g}"
    return text if "." in text or "e" in text or text == "nan" else text + ".0"  # readers take 3 for an integer
