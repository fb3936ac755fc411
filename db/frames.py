"""Labelled structures from files that others wrote: extended XYZ, ase.db, OUTCAR, or whatever ASE reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from farfield.db.bulk import Frame
from farfield.db.labels import Array
from farfield.errors import RecordError
from farfield.oracles.observation import VOIGT, virial_from_stress

__all__ = ["LabelKeys", "frames"]

LabelKeys = Mapping[str, str]
"""Names of "energy", "forces", "virials" and "stress" in the file, where they are not the usual ones."""

USUAL = {
    "energy": ("REF_energy",),
    "forces": ("REF_forces",),
    "virials": ("REF_virials", "REF_virial", "virials", "virial"),
    "stress": ("REF_stress",),
}
"""Tried in turn, before what ASE takes for the results of a calculator."""


def frames(path: Path, form: str | None = None, keys: LabelKeys | None = None) -> Iterator[Frame]:
    """The frames of a file in order, streamed. `form`: ASE's name of the format, by default guessed.

    The energy is the free energy where a program gives both (decisions C1); forces are raw, whatever constraints say;
    a virial is taken from the stress where there is none. Raises RecordError for what cannot be read, naming the frame.
    """
    from ase.io import iread

    if not path.exists():
        raise RecordError(f"there is no file {path}; check the name")
    keys = dict(keys or {})
    number = 0
    try:
        for atoms in _ase_rows(path) if _is_ase_db(path, form) else iread(path, ":", format=form):
            yield _frame(atoms, f"{path.name} frame {number}", keys)
            number += 1
    except RecordError:
        raise
    except Exception as fault:  # ASE's readers raise anything at all
        why = " ".join(str(fault).split()) or type(fault).__name__
        raise RecordError(
            f"{path}, frame {number} cannot be read ({why[:200]}); say --format, or mend the file"
        ) from fault


def _is_ase_db(path: Path, form: str | None) -> bool:
    return form == "db" or (form is None and path.suffix == ".db")


def _ase_rows(path: Path) -> Iterator[Atoms]:
    from ase.db import connect

    with connect(path, type="db") as held:
        for row in held.select(sort="id"):
            yield row.toatoms()


def _frame(atoms: Any, name: str, keys: LabelKeys) -> Frame:
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    free = results.get("free_energy")
    energy = _named(atoms, "energy", keys, free if free is not None else results.get("energy"))
    forces = _named(atoms, "forces", keys, results.get("forces"))
    virial = _virial(atoms, keys, results, name)
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
    if atoms.has("initial_magmoms"):
        bare.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
    try:
        return Frame(
            bare,
            None if energy is None else float(np.asarray(energy)),
            None if forces is None else np.asarray(forces, float),
            virial,
            name,
        )
    except (TypeError, ValueError) as fault:
        raise RecordError(f"{name}: its labels are no numbers ({fault}); name the right keys") from fault


def _named(atoms: Any, what: str, keys: LabelKeys, otherwise: Any) -> Any:
    """What the file holds under a name that was given, one of the usual ones, or else a calculator's result."""
    names = (keys[what],) if what in keys else USUAL[what]
    for name in names:
        for held in (atoms.info, atoms.arrays):
            if name in held:
                return held[name]
    return None if what in keys and keys[what] not in ("energy", "forces", "stress") else otherwise


def _virial(atoms: Any, keys: LabelKeys, results: dict[str, Any], name: str) -> Array | None:
    virial = _named(atoms, "virials", keys, None)
    stress = _named(atoms, "stress", keys, results.get("stress"))
    try:
        if virial is not None:
            # minus the volume over minus the volume: shape and symmetry are checked in one place
            return virial_from_stress(_tensor(virial), -1.0)
        if stress is not None and atoms.cell.rank == 3:
            return virial_from_stress(_tensor(stress), atoms.get_volume())
    except ValueError as fault:
        raise RecordError(f"{name}: {fault}") from fault
    return None


def _tensor(values: Any) -> Array:
    """(6,) or (3, 3) from six, nine or 3x3 numbers."""
    found = np.asarray(values, float)
    return found.reshape(3, 3) if found.size == 2 * len(VOIGT) - 3 else found
