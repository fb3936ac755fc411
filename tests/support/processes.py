"""What runs on this host, by /proc: whether an oracle has left something behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def working_in(folder: Path) -> list[int]:
    """All processes of this host that work in `folder`, which an oracle's offspring do wherever it has fled to."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if where.startswith(f"{folder}{os.sep}") and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def soon(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true within the seconds that a busy machine may need."""
    deadline = time.monotonic() + 90
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(pids: list[int]) -> bool:
    """Whether all have ended."""
    return soon(lambda: not any(alive(p) for p in pids))


def parent(pid: int) -> int:
    """The parent of a process. Raises FileNotFoundError where there is none such."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def comes_to(
    process: subprocess.Popen[bytes], condition: Callable[[], bool], output: Path, patience: float = 180
) -> None:
    """Wait until `condition` holds while `process` runs. Where it stands still it is aborted, and says where it stood
    in `output` if Python's fault handler is on."""
    deadline = time.monotonic() + patience
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline, f"it stands still\n{last_words(process, output)}"
        time.sleep(0.02)


def ends(process: subprocess.Popen[bytes], output: Path, patience: float = 180) -> int:
    """The exit code of a process, which is to end by itself."""
    try:
        return process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it does not end\n{last_words(process, output)}") from None


def last_words(process: subprocess.Popen[bytes], output: Path) -> str:
    """What a process has printed, its stacks last."""
    process.send_signal(signal.SIGABRT)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return output.read_text(encoding="utf-8", errors="replace")[-6000:]
