"""Answer files: what an oracle said, on disk before it goes to the database (decisions A7).

A worker writes ``<calculation>-<attempt>.answer`` beside the oracle's scratch, synced and renamed into place, commits
it and deletes it. A file that is left over (the database was away, the worker died in between) is taken in by `ingest`
at the next start, through the gate, as often as you like.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from farfield.db import schema
from farfield.db.blobs import load_blob
from farfield.db.claims import Claims
from farfield.db.identity import structure_atoms
from farfield.oracles.gate import check
from farfield.oracles.observation import KINDS, Observations
from farfield.oracles.packing import pack, unpack

__all__ = ["AnswerFile", "Ingested", "ingest", "read", "write"]

SUFFIX, PART = ".answer", ".part"
FORMAT = "farfield answer 1"


@dataclass(frozen=True)
class AnswerFile:
    """An answer on its way: the attempt, its calculation's key, the session that held it, the kinds asked of it,
    core-seconds, and what was observed."""

    attempt: int
    calculation: str
    session: int
    kinds: tuple[str, ...]
    core_seconds: float
    observations: Observations

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.calculation}-{self.attempt}{SUFFIX}"


@dataclass(frozen=True)
class Ingested:
    """What became of the answer files in a folder: attempts that brought a label, that were superseded, that the gate
    refused; files of another database (left alone) and damaged ones (set aside as ``.damaged``)."""

    accepted: tuple[int, ...] = ()
    superseded: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    foreign: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def write(folder: Path, answer: AnswerFile) -> Path:
    """Write `answer` durably into `folder`; the file. Raises OSError (a full disk, say)."""
    o = answer.observations
    arrays = {name: np.asarray(value, dtype="<f8") for name, value in o.values.items()}
    if o.moments is not None:
        arrays["moments"] = np.asarray(o.moments, dtype="<f8")
    header = {
        "format": FORMAT,
        "attempt": answer.attempt,
        "calculation": answer.calculation,
        "session": answer.session,
        "kinds": list(answer.kinds),
        "core_seconds": answer.core_seconds,
        "converged": o.converged,
        "energy_zero": o.energy_zero,
        "settings": o.settings,
        "missing": o.missing,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / answer.name
    part = path.with_suffix(PART)
    try:
        with part.open("wb") as stream:
            stream.write(pack(header, arrays))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)  # the rename too
    finally:
        os.close(handle)
    return path


def read(path: Path) -> AnswerFile:
    """The answer in a file. Raises ValueError for one that is damaged or not ours."""
    header, arrays = unpack(path.read_bytes())
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is no answer file")
    values: dict[str, Any] = {k: float(a) if a.ndim == 0 else a for k, a in arrays.items() if k in KINDS}
    try:
        observations = Observations(
            values,
            converged=header["converged"],
            energy_zero=header["energy_zero"],
            moments=arrays.get("moments"),
            settings=header["settings"],
            missing=header["missing"],
        )
        return AnswerFile(
            header["attempt"],
            header["calculation"],
            header["session"],
            tuple(header["kinds"]),
            header["core_seconds"],
            observations,
        )
    except KeyError as fault:
        raise ValueError(f"{path} lacks {fault}") from fault


def ingest(claims: Claims, folder: Path) -> Ingested:
    """Take in every answer file of `folder`, delete those that are in the database and what a worker that died while it
    wrote has left. Idempotent, and harmless beside a worker that is delivering the same file."""
    done: dict[str, list[Any]] = {"accepted": [], "superseded": [], "refused": [], "foreign": [], "damaged": []}
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            answer = read(path)
        except FileNotFoundError:
            continue  # its owner has just delivered it
        except ValueError:
            with suppress(OSError):  # a disk that became read-only: it is looked at again
                path.replace(path.with_suffix(".damaged"))
            done["damaged"].append(path.name)
            continue
        structure = _structure(claims, answer)
        if structure is None:
            done["foreign"].append(path.name)
            continue
        done[_deliver(claims, answer, structure)].append(answer.attempt)
        with suppress(OSError):
            path.unlink(missing_ok=True)
    for part in folder.glob(f"*{PART}"):
        if _given_up(claims, part.stem):
            with suppress(OSError):  # who lives after all writes it again
                part.unlink(missing_ok=True)
    return Ingested(**{name: tuple(found) for name, found in done.items()})


def _deliver(claims: Claims, answer: AnswerFile, structure: bytes) -> str:
    faults = check(structure_atoms(structure), answer.kinds, answer.observations)
    if not faults and not answer.observations.values:
        faults = ["it holds no kind that was asked"]
    if faults:
        claims.fail(answer.attempt, "bad answer", "; ".join(faults), answer.core_seconds)
        return "refused"
    return "accepted" if claims.finish_answer(answer) else "superseded"


def _given_up(claims: Claims, name: str) -> bool:
    """Whether nobody is known to work on the attempt that a file is named after; never for another database's."""
    key, _, attempt = name.rpartition("-")
    a, c = schema.attempt.c, schema.calculation.c
    if not attempt.isdecimal():
        return False
    with claims.database.read() as connection:
        state = connection.scalars(
            select(a.state).join(schema.calculation, c.id == a.calculation_id).where(a.id == int(attempt), c.key == key)
        ).one_or_none()
    return state is not None and state != "running"


def _structure(claims: Claims, answer: AnswerFile) -> bytes | None:
    """Bytes of the cell, where the attempt is of this database: number, calculation and session all match."""
    a, c, s = schema.attempt.c, schema.calculation.c, schema.structure.c
    with claims.database.read() as connection:
        row = connection.execute(
            select(s.blob_id, a.session_id, a.state)
            .join(schema.calculation, c.id == a.calculation_id)
            .join(schema.structure, s.id == c.structure_id)
            .where(a.id == answer.attempt, c.key == answer.calculation)
        ).one_or_none()
        if row is None or (row.state != "waiting" and row.session_id != answer.session):
            return None
        return load_blob(connection, row.blob_id)
