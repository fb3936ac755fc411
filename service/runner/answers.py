"""Answer files: what an oracle said, on disk before it goes to the database (decisions A7).

A file is named by attempt, written beside the oracle's scratch, synced and renamed, and deleted after the commit.
One that is left over (the database was away, the worker died) is taken in at the next start, through the gate,
idempotently.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farfield.oracles.observation import Observations
from farfield.oracles.packing import pack, unpack

__all__ = ["AnswerFile", "delete", "leftovers", "set_aside", "write"]

SUFFIX = ".answer"


@dataclass(frozen=True)
class AnswerFile:
    """One answer: its attempt, the session that held it, the kinds asked, core-seconds, and what was observed."""

    attempt: int
    session: int
    kinds: tuple[str, ...]
    core_seconds: float
    observations: Observations
    path: Path | None = None


def write(folder: Path, answer: AnswerFile) -> Path:
    """Write `answer` durably; returns the file. Raises OSError (a full disk, say)."""
    o = answer.observations
    arrays = {f"value {k}": np.asarray(v, float) for k, v in o.values.items()}
    if o.moments is not None:
        arrays["moments"] = np.asarray(o.moments, float)
    header = {
        "format": "farfield answer",
        "attempt": answer.attempt,
        "session": answer.session,
        "kinds": list(answer.kinds),
        "core_seconds": answer.core_seconds,
        "converged": o.converged,
        "energy_zero": o.energy_zero,
        "settings": o.settings,
        "missing": o.missing,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{answer.attempt}{SUFFIX}"
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        stream.write(pack(header, arrays))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    _sync(folder)
    return path


def read(path: Path) -> AnswerFile:
    """The answer in a file. Raises ValueError for one that is damaged or not ours."""
    header, arrays = unpack(path.read_bytes())
    if header.get("format") != "farfield answer":
        raise ValueError(f"{path} is no answer file")
    values: dict[str, Any] = {
        name.removeprefix("value "): float(a) if a.ndim == 0 else a
        for name, a in arrays.items()
        if name.startswith("value ")
    }
    observations = Observations(
        values,
        converged=bool(header["converged"]),
        energy_zero=header["energy_zero"],
        moments=arrays.get("moments"),
        settings=header["settings"],
        missing=header["missing"],
    )
    return AnswerFile(
        int(header["attempt"]),
        int(header["session"]),
        tuple(header["kinds"]),
        float(header["core_seconds"]),
        observations,
        path,
    )


def leftovers(folder: Path) -> Iterator[AnswerFile]:
    """The readable answer files in `folder`, by attempt; damaged ones are set aside under another name."""
    if not folder.is_dir():
        return
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            yield read(path)
        except FileNotFoundError:
            continue  # its owner has just delivered it
        except (ValueError, KeyError, TypeError):
            set_aside(path)


def set_aside(path: Path) -> None:
    """Keep a file that cannot be taken in, under another name."""
    path.rename(path.with_suffix(".refused"))


def delete(path: Path) -> None:
    """Remove an answer file that is in the database; a missing one is fine."""
    path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make a rename durable."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # not every system lets a folder be opened
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
