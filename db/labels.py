"""Labels: which answer of which attempt counts (decisions A4), and reading the accepted ones back.

Every function runs in its caller's transaction.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Integer, bindparam, case, func, select

from farfield.db import schema
from farfield.db.blobs import blocks, load_blob
from farfield.db.clock import now
from farfield.db.rows import Prepared, among, insert_or_skip
from farfield.errors import RecordError
from farfield.oracles.observation import KINDS, Observations
from farfield.oracles.packing import pack_rows, unpack

__all__ = [
    *("Labels", "accept", "accepted_answers", "accepted_kinds", "difference", "labels"),
    *("result_bytes", "result_values", "scalar"),
]

Array = NDArray[np.float64]
STORED = "result 2"


@dataclass(frozen=True)
class Labels:
    """Accepted labels of one calculation: energy eV, forces (N, 3) eV/Å, virial (6,) eV; None where there is none.

    `energy_zero` eV: extrapolated to zero smearing, never fitted (C1). `moments` (N,) in Bohr magnetons.
    """

    energy: float | None = None
    forces: Array | None = None
    virial: Array | None = None
    energy_zero: float | None = None
    moments: Array | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are there, in registry order."""
        return tuple(k for k, v in (("E", self.energy), ("F", self.forces), ("V", self.virial)) if v is not None)

    def only(self, kinds: Collection[str]) -> Labels:
        """The labels of `kinds` alone."""
        return Labels(
            self.energy if "E" in kinds else None,
            self.forces if "F" in kinds else None,
            self.virial if "V" in kinds else None,
            self.energy_zero if "E" in kinds else None,
            self.moments,
        )


def result_bytes(observations: Observations, kinds: Sequence[str], natoms: int) -> bytes:
    """One attempt's answer to `kinds` as a blob. Raises RecordError for arrays of a wrong shape or not finite."""
    arrays: dict[str, Array] = {}
    for name in kinds:
        value = np.asarray(observations.values[name], dtype="<f8")
        if value.shape != KINDS[name].shape_for(natoms) or not np.isfinite(value).all():
            raise RecordError(f"the answer's {name} is no label (shape {value.shape}); send answers through the gate")
        arrays[name] = value
    if observations.moments is not None:
        arrays["moments"] = np.asarray(observations.moments, dtype="<f8")
    if observations.energy_zero is not None:
        arrays["energy_zero"] = np.asarray(observations.energy_zero, dtype="<f8")
    try:
        return pack_rows(STORED, arrays)
    except ValueError as fault:
        raise RecordError(f"an answer cannot be stored ({fault})") from fault


def result_values(data: bytes) -> tuple[dict[str, Array], float | None]:
    """Arrays by kind (and "moments"), and the energy at zero smearing. Raises RecordError for foreign bytes."""
    try:
        header, arrays = unpack(data)
    except ValueError as fault:
        raise RecordError(f"a stored answer cannot be read ({fault}); restore the database from a copy") from fault
    if header.get("format") != STORED:
        return arrays, header.get("energy_zero")
    zero = arrays.pop("energy_zero", None)
    return arrays, None if zero is None else float(zero)


def accepted_kinds(connection: Connection, calculation: int) -> dict[str, int]:
    """Accepted kinds of a calculation (row id), each with the blob it is in."""
    return {kind: blob for kind, blob in connection.execute(_ACCEPTED, {"calculation": calculation})}


def accept(
    connection: Connection, calculation: int, attempt: int, blob: int, values: Mapping[str, Array], zero: float | None
) -> tuple[str, ...]:
    """Offer the labels of an attempt; those kinds that nobody had brought before are accepted. Their names.

    The unique constraint decides, so of two writers at once exactly one is accepted for each kind.
    """
    rows = [
        {
            "calculation_id": calculation,
            "kind": kind,
            "detail": "",
            "attempt_id": attempt,
            "value": scalar(kind, values[kind]),
            "energy_zero": zero if kind == "E" else None,
            "blob_id": blob,
        }
        for kind in KINDS
        if kind in values
    ]
    if not rows:
        return ()
    taken = set(connection.scalars(_offer(connection.dialect.name), rows))
    return tuple(k for k in KINDS if k in taken)


def difference(connection: Connection, calculation: int, values: Mapping[str, Array]) -> dict[str, float]:
    """Largest |value - accepted label| of each kind that has one. Ask after `accept`, for the kinds it did not take:
    before, the one that wins may not have committed yet."""
    found = {}
    for kind, blob in accepted_kinds(connection, calculation).items():
        if kind in values:
            arrays, _ = result_values(load_blob(connection, blob))
            found[kind] = float(np.abs(values[kind] - arrays[kind]).max())
    return found


def labels(connection: Connection, calculations: Iterable[int]) -> dict[int, Labels]:
    """Accepted labels by calculation (row ids); calculations without any are left out."""
    parts: dict[int, dict[str, Any]] = {}
    for block in blocks(sorted(set(calculations))):
        for calculation, e, f, v, data in accepted_answers(connection, block):
            arrays, zero = result_values(bytes(data))
            part = parts.setdefault(calculation, {})
            if e:
                part.update(energy=float(arrays["E"]), energy_zero=zero)
            if f:
                part["forces"] = arrays["F"]
            if v:
                part["virial"] = arrays["V"]
            if "moments" in arrays:
                part["moments"] = arrays["moments"]
    return {i: Labels(**part) for i, part in parts.items()}


def accepted_answers(connection: Connection, calculations: Sequence[int]) -> Sequence[tuple[int, int, int, int, bytes]]:
    """Answers that count, by calculation (row ids): whether for E, F and V, and the answer's bytes."""
    return _ANSWERS(connection, calculations=list(calculations))


def _answers() -> Prepared:
    o, b = schema.observation.c, schema.blob.c
    masks = [func.max(case((o.kind == kind, 1), else_=0)).cast(Integer).label(kind) for kind in ("E", "F", "V")]
    which = (
        select(o.calculation_id, o.blob_id, *masks)
        .where(among(o.calculation_id, "calculations"), o.detail == "")
        .group_by(o.calculation_id, o.blob_id)
        .subquery()
    )
    columns = (which.c.calculation_id, which.c.E, which.c.F, which.c.V, b.data)
    return Prepared(select(*columns).join(schema.blob, b.id == which.c.blob_id))


_ANSWERS = _answers()
_ACCEPTED = select(schema.observation.c.kind, schema.observation.c.blob_id).where(
    schema.observation.c.calculation_id == bindparam("calculation"), schema.observation.c.detail == ""
)


@functools.cache
def _offer(dialect: str) -> Any:
    return insert_or_skip(dialect, schema.observation).values(accepted=now()).returning(schema.observation.c.kind)


def scalar(kind: str, value: Array) -> float:
    """What an observation row says of a label: see `schema.observation`."""
    if kind == "E":
        return float(value)
    if kind == "V":
        return float(value[:3].sum() / 3)
    return float(np.linalg.norm(value, axis=1).max())
