"""A Dask scheduler and workers that outlive controllers, started again whenever they end, as a site's own script would:
workers of a scheduler that is gone exit with code 0."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from processes import parent
from tiny import environment, until


class Daemon:
    """One process, started again when it ends; `prefix` stands before its command."""

    def __init__(
        self, folder: Path, name: str, arguments: Sequence[str], prefix: Sequence[str], extra: Mapping[str, str]
    ) -> None:
        self.command = [*prefix, sys.executable, "-m", *arguments]
        self.log, self.folder, self.extra = folder / f"{name}.log", folder, dict(extra)
        self.held = False
        self.starts = 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**environment(), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", **self.extra},
                start_new_session=True,
            )

    def look(self) -> None:
        """Start it again where it has ended."""
        if not self.held and self.process.poll() is not None:
            self.process = self._start()

    def kill(self) -> None:
        """As by the kernel's memory killer: this process alone."""
        process = self.process  # another may stand there at once
        process.kill()
        process.wait()

    def end(self) -> None:
        """For good, with all that is of its session."""
        self.held = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Daemons:
    """A scheduler at `address` with workers; see `daemons`."""

    def __init__(self, folder: Path, host: str, scheme: str, options: Sequence[str]) -> None:
        self.folder, self.options = folder, list(options)
        folder.mkdir(exist_ok=True)
        with socket.socket() as s:
            s.bind((host, 0))
            port = s.getsockname()[1]
        self.address = f"{scheme}://{host}:{port}"
        arguments = ["distributed.cli.dask_scheduler", "--host", host, "--port", str(port), "--no-dashboard"]
        arguments += ["--dashboard-address", f"{host}:0", "--protocol", f"{scheme}://", *options]
        self.scheduler = Daemon(folder, "scheduler", arguments, [], {})
        assert until(lambda: _listens(host, port), 120), "the scheduler does not start"
        self.workers: list[Daemon] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tend, daemon=True)
        self._thread.start()

    def worker(self, *options: str, prefix: Sequence[str] = (), **extra: str) -> Daemon:
        """One more worker under a nanny."""
        arguments = ["distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-dashboard"]
        arguments += ["--memory-limit", "0", "--death-timeout", "60", *self.options, *options]
        self.workers.append(Daemon(self.folder, f"worker-{len(self.workers)}", arguments, prefix, extra))
        return self.workers[-1]

    def registered(self) -> None:
        """Wait until each worker has come to the scheduler once."""
        logs = [worker.log for worker in self.workers]
        assert until(lambda: all("Registered to:" in log.read_text(errors="replace") for log in logs)), logs

    def _tend(self) -> None:
        while not self._done.wait(0.5):
            for daemon in [self.scheduler, *self.workers]:
                daemon.look()

    def close(self) -> None:
        """End all of them."""
        self._done.set()
        self._thread.join()
        for daemon in [*self.workers, self.scheduler]:
            daemon.end()


@contextmanager
def daemons(
    folder: Path, host: str = "127.0.0.1", scheme: str = "tcp", options: Sequence[str] = ()
) -> Iterator[Daemons]:
    """A scheduler without workers, and whoever starts it and its workers again when they end; `options` go to all."""
    made = Daemons(folder, host, scheme, options)
    try:
        yield made
    finally:
        made.close()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def nanny_of(worker: int) -> int:
    """The parent of a worker process."""
    return parent(worker)


def below(pid: int) -> dict[str, list[int]]:
    """Of a worker: its supervisors, the oracles' processes, and what those have started."""
    supervisors = [p for p in _children(pid) if "supervisor.py" in _command(p)]
    oracles = [c for s in supervisors for c in _children(s) if "farfield.oracles.child" in _command(c)]
    offspring = [g for c in oracles for g in _children(c)]
    return {"supervisor": supervisors, "child": oracles, "grandchild": offspring}


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if parent(int(entry.name)) == pid:
                    found.append(int(entry.name))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def pause(seconds: float) -> None:
    """A fault lasts."""
    time.sleep(seconds)
