"""Who is who: canonical bytes of a structure, its key, and the key of a calculation (decisions A2)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from farfield.errors import OracleError, RecordError
from farfield.oracles.mesh import KEY, explicit_mesh
from farfield.oracles.observation import KINDS
from farfield.oracles.packing import pack, pack_rows, unpack

__all__ = [
    "calculation_key",
    "formula",
    "key_and_bytes",
    "ordered_kinds",
    "stored_bytes",
    "structure_atoms",
    "structure_bytes",
    "structure_key",
]

FORMAT, STORED = "farfield structure 1", "structure 2"


def structure_bytes(atoms: Atoms) -> bytes:
    """Canonical bytes of `atoms`: species, positions and cell (Å, float64), pbc, initial magnetic moments,
    and the k-point mesh that it carries, if any (`oracles.mesh`).

    Equal bytes mean the same input to an oracle. Zeros have no sign, and moments that are all zero count as not set.
    The order of the atoms is part of the identity; constraints, tags, names and results are not. Raises RecordError
    for no atoms or values that are not finite.
    """
    return pack({"format": FORMAT, "pbc": [bool(p) for p in atoms.pbc]}, _arrays(atoms))


def key_and_bytes(atoms: Atoms) -> tuple[str, bytes]:
    """`structure_key` and `stored_bytes` at once."""
    arrays = _arrays(atoms)
    canonical = pack({"format": FORMAT, "pbc": [bool(p) for p in atoms.pbc]}, arrays)
    stored = pack_rows(STORED, {**arrays, "pbc": np.asarray(atoms.pbc, dtype="?")})
    return hashlib.sha256(canonical).hexdigest(), stored


def formula(atoms: Atoms) -> str:
    """The chemical formula in Hill's order, the same for any order of the atoms."""
    return _formula(np.sort(atoms.numbers).astype("u1").tobytes())


@functools.lru_cache(maxsize=4096)
def _formula(numbers: bytes) -> str:
    return str(Atoms(numbers=list(numbers)).get_chemical_formula())


def stored_bytes(atoms: Atoms) -> bytes:
    """The bytes a database keeps of `atoms`: what `structure_bytes` says, in less. Raises RecordError as it does."""
    return pack_rows(STORED, {**_arrays(atoms), "pbc": np.asarray(atoms.pbc, dtype="?")})


def _arrays(atoms: Atoms) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "cell": np.asarray(atoms.cell.array, dtype="<f8") + 0.0,
        "numbers": np.asarray(atoms.numbers, dtype="u1"),
        "positions": np.asarray(atoms.positions, dtype="<f8") + 0.0,
    }
    if atoms.has("initial_magmoms"):
        moments = np.asarray(atoms.get_initial_magnetic_moments(), dtype="<f8") + 0.0
        if moments.any():
            arrays["moments"] = moments
    try:
        mesh = explicit_mesh(atoms)
    except OracleError as fault:
        raise RecordError(str(fault)) from fault
    if mesh is not None:
        arrays["mesh"] = np.asarray(mesh, dtype="<i8")
    if not len(atoms) or not all(np.isfinite(a).all() for a in arrays.values()):
        raise RecordError("a structure needs atoms and finite positions, cell and moments; look at how it was built")
    return arrays


def structure_atoms(data: bytes) -> Atoms:
    """The atoms of `structure_bytes` or `stored_bytes`, bit for bit. Raises RecordError for what is no structure."""
    try:
        header, arrays = unpack(data)
    except ValueError as fault:
        raise RecordError(f"a stored structure cannot be read ({fault}); restore the database from a copy") from fault
    if header.get("format") not in (FORMAT, STORED):
        raise RecordError(f"a stored structure has the format {header.get('format')!r}; use the farfield that wrote it")
    pbc = header["pbc"] if header["format"] == FORMAT else arrays["pbc"]
    atoms = Atoms(numbers=arrays["numbers"], positions=arrays["positions"], cell=arrays["cell"], pbc=pbc)
    if "moments" in arrays:
        atoms.set_initial_magnetic_moments(arrays["moments"])
    if "mesh" in arrays:
        atoms.info[KEY] = tuple(int(m) for m in arrays["mesh"])
    return atoms


def structure_key(structure: Atoms | bytes) -> str:
    """sha256 of the canonical bytes, hexadecimal."""
    data = structure if isinstance(structure, bytes) else structure_bytes(structure)
    return hashlib.sha256(data).hexdigest()


def calculation_key(structure: str, fingerprint: str) -> str:
    """Key of the calculation of a structure (its key) by an oracle (its fingerprint's hash), hexadecimal."""
    return hashlib.sha256(f"{structure}/{fingerprint}".encode("ascii")).hexdigest()


def ordered_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """`kinds` once each in the registry's order. Raises RecordError for unknown, derived or no kinds."""
    askable = [k for k in KINDS if not KINDS[k].derived]
    if not kinds or not set(kinds) <= set(askable):
        asked = ", ".join(kinds) or "nothing"
        raise RecordError(f"cannot ask an oracle for {asked}; ask for some of {', '.join(askable)}")
    return tuple(k for k in askable if k in kinds)
