"""What becomes of a call's files: gone when it succeeded, kept up to a limit when it failed; its output stays.

Beside the sandbox's own folder, in the campaign's scratch folder::

    failed/<call>/   the working folder of a failed call, with its output in output.log
    output/<call>.log   what a successful call printed, if it printed anything

A call is named by its calculation's key and its attempt, so the record leads here. The newest are kept.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["KEPT_BYTES", "KEPT_FOLDERS", "KEPT_LOGS", "LOG_BYTES", "Scratch"]

KEPT_FOLDERS = 20
KEPT_BYTES = 500 * 1024 * 1024
"""Of all failed calls together; of one that is larger by itself, the largest files go."""
KEPT_LOGS = 1000
LOG_BYTES = 64 * 1024
"""The end of a call's output that is kept."""


class Scratch:
    """Keeps and removes below `parent`, the campaign's scratch folder; None: nothing is kept. `log`: where the oracle's
    process prints, one call after the other."""

    def __init__(self, parent: Path | None, log: Path) -> None:
        self.parent, self.log = parent, log

    def begin(self) -> None:
        """A call begins: what is in the log is not its own."""
        try:
            os.truncate(self.log, 0)  # the oracle appends, so it goes on at the new end
        except FileNotFoundError:
            return

    def finished(self, call: str, folder: Path) -> None:
        """The call succeeded: its folder goes, its output is kept."""
        shutil.rmtree(folder, ignore_errors=True)
        output = self._output()
        if self.parent is not None and output.strip():
            logs = self.parent / "output"
            try:
                logs.mkdir(parents=True, exist_ok=True)
                (logs / f"{call}.log").write_bytes(output)
                for old in _newest_first(logs)[KEPT_LOGS:]:
                    old.unlink(missing_ok=True)
            except OSError:
                (logs / f"{call}.log").unlink(missing_ok=True)  # a full disk: the answer counts, not what was printed

    def dropped(self, folder: Path) -> None:
        """The call ended without a verdict: its folder goes."""
        shutil.rmtree(folder, ignore_errors=True)

    def failed(self, call: str, folder: Path) -> str | None:
        """The call failed: its folder is kept with its output; where to, None where there is nothing to keep."""
        output = self._output()
        if self.parent is None or not (output.strip() or _holds(folder)):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        kept = self.parent / "failed" / call
        try:
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            if folder.is_dir():
                folder.replace(kept)
            kept.mkdir(exist_ok=True)
            (kept / "output.log").write_bytes(output)
            self._trim(kept)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # a full disk: the failure itself must still be told
            return None
        return str(kept)

    def _output(self) -> bytes:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
                return file.read()
        except OSError:
            return b""

    def _trim(self, newest: Path) -> None:
        """Remove old failed calls beyond the limits, and of the newest what exceeds them by itself."""
        room = KEPT_BYTES - _shrink(newest, KEPT_BYTES)
        for k, folder in enumerate(f for f in _newest_first(newest.parent) if f != newest):
            size = sum(s for _, s in _sizes(folder))
            room -= size
            if k >= KEPT_FOLDERS - 1 or room < 0:
                shutil.rmtree(folder, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    found = []
    for path in folder.iterdir():
        try:
            found.append((path.stat().st_mtime, path))
        except FileNotFoundError:
            continue  # another worker has removed it
    return [path for _, path in sorted(found, reverse=True)]


def _holds(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _sizes(folder: Path) -> list[tuple[Path, int]]:
    """Plain files below `folder` with their sizes; links are not followed."""
    found = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            try:
                found.append((path, path.lstat().st_size))
            except FileNotFoundError:
                continue
    return found


def _shrink(folder: Path, limit: int) -> int:
    """Delete the largest files until the rest fits; its size, bytes."""
    files = sorted(_sizes(folder), key=lambda f: f[1])
    size = sum(s for _, s in files)
    while size > limit:
        path, length = files.pop()
        path.unlink(missing_ok=True)
        size -= length
    return size
