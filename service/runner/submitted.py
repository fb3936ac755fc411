"""The jobs that a controller has submitted, noted beside their logs: one that is killed cancels nothing, and the next
one on that host ends what it left."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from farfield.db.processes import process_start
from farfield.service.runner.host import this_host

__all__ = ["Left", "Submitted", "left_behind"]

PREFIX = "submitted-"


@dataclass(frozen=True)
class Left:
    """Of a controller: `jobs`, their ids in the batch system `kind`; `keys`, the names of its TLS files; who it is."""

    jobs: tuple[str, ...]
    keys: tuple[str, ...]
    kind: str
    host: str
    life: str
    pid: int
    start: float

    @property
    def dead(self) -> bool:
        """Whether it is known to be gone: it was of this host, and before its last boot, or we would see it."""
        host, life = this_host()
        if self.host != host:
            return False
        if self.life.partition("/")[0] != life.partition("/")[0]:
            return True
        return self.life == life and process_start(self.pid) != self.start


class Submitted:
    """Keeps the note of this process in `folder`; `keys` are its TLS files there."""

    def __init__(self, folder: Path, kind: str, keys: Collection[str] = ()) -> None:
        host, life = this_host()
        start = process_start(os.getpid()) or 0.0
        self._left = Left((), tuple(sorted(keys)), kind, host, life, os.getpid(), start)
        self._path = folder / f"{PREFIX}{host}-{os.getpid()}.json"

    def note(self, jobs: Collection[str]) -> None:
        """These are the jobs now. Where the disk is full it is written the next time."""
        if (now := tuple(sorted(jobs))) != self._left.jobs:
            left, new = replace(self._left, jobs=now), self._path.with_suffix(".new")
            with suppress(OSError):
                new.write_text(json.dumps(asdict(left)), encoding="utf-8")
                new.replace(self._path)
                self._left = left

    def close(self) -> None:
        """They are all cancelled."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def left_behind(folder: Path) -> Iterator[tuple[Path, Left]]:
    """The notes in `folder` of controllers that are known to be dead."""
    for path in sorted(folder.glob(f"{PREFIX}*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        left = Left(**data | {"jobs": tuple(data["jobs"]), "keys": tuple(data["keys"])})
        if left.dead:
            yield path, left
