"""What a worker process keeps between tasks: its database, its session with a heartbeat, and the oracle's sandbox."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from farfield.db import answers
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.oracles import registry
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.sandbox import Sandbox
from farfield.service.runner.lifetime import Lifetime
from farfield.service.runner.patience import Patience, patiently
from farfield.service.runner.session import BEAT_SECONDS, Session

if TYPE_CHECKING:
    from farfield.service.runner.task import Order

__all__ = ["ROOM", "Worker", "forget", "this_worker"]

log = logging.getLogger("farfield.worker")

ROOM = 64 * 1024 * 1024
"""Bytes that must be free where answers go, or no call is begun."""


class Worker:
    """State of one worker process for one database. One task at a time uses it (workers have one thread)."""

    def __init__(self, url: str, scratch: str, patience: float, beat: float = BEAT_SECONDS) -> None:
        self.patience = patience
        self.settings = scratch, patience, beat
        self.lifetime = Lifetime()
        self.folder = _writable(Path(scratch))
        self.cancelled: set[int] = set()
        self._sandbox: tuple[str, Sandbox] | None = None
        self._attempt: int | None = None
        self._fingerprints: dict[str, str] = {}
        self.claims = Claims(open_database(url))
        with ExitStack() as undone:
            undone.callback(self.claims.database.close)
            self.session = undone.enter_context(Session(self.claims, beat=beat, on_cancel=self._cancel))
            # what a worker before us could not deliver
            patiently(lambda: answers.ingest(self.claims, self.folder / "answers"), patience)
            undone.pop_all()

    def claim(self, attempt: int) -> bool:
        """Whether this worker now holds `attempt`."""
        return patiently(lambda: self.claims.claim(attempt, self.session.id), self.patience)

    def fingerprint(self, oracle: str, parameters: dict[str, Any], base: str) -> str:
        """Hash of the oracle as this process would load it. Raises OracleLoadError."""
        key = json.dumps([oracle, parameters, base], sort_keys=True)
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint_hash(registry.load(oracle, parameters, base))
        return self._fingerprints[key]

    @contextmanager
    def busy(self, attempt: int, order: Order) -> Iterator[Sandbox]:
        """The oracle's sandbox, kept from call to call, marked as working on `attempt` so that it can be cancelled."""
        settings = [order.oracle, order.parameters, order.base, order.wall_time, order.memory]
        key = json.dumps(settings, sort_keys=True)
        if self._sandbox is not None and self._sandbox[0] != key:
            self._end_sandbox()
        if self._sandbox is None:
            box = Sandbox(order.oracle, order.parameters, order.wall_time, order.memory, self.folder, base=order.base)
            self._sandbox = (key, box)
        self._attempt = attempt
        try:
            yield self._sandbox[1]
        finally:
            self._attempt = None

    def full(self) -> str | None:
        """Why no call may begin here: there is no room for its answer. None where there is."""
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as fault:
            return f"cannot look at {self.folder} ({fault.strerror})"
        if not os.access(self.folder, os.W_OK):  # mounted anew and read-only, say
            return f"cannot write to {self.folder}"
        return None if free >= ROOM else f"only {free / 1e6:.0f} MB are free for answers in {self.folder}"

    def deliver(self, answer: answers.AnswerFile) -> None:
        """Write the answer to a file, commit it, delete the file.

        Where the disk is full or broken the database may be well, and the other way round; an answer that is on neither
        is kept, and tried again, as long as this process lives.
        """
        patience, path = Patience(self.patience), None
        while True:
            try:
                path = path or answers.write(self.folder / "answers", answer)
            except OSError as fault:
                log.warning("the answer is on no disk yet: %s", fault)
            try:
                self.claims.finish_answer(answer)
            except DBAPIError as fault:
                patience.wait(fault, endless=path is None)
                continue
            if path is not None:
                with suppress(OSError):  # a disk that broke since: the file says again what the database knows
                    path.unlink(missing_ok=True)
            return

    def fail(self, attempt: int, failure: str, message: str, core_seconds: float) -> None:
        """Record a failed attempt."""
        patiently(lambda: self.claims.fail(attempt, failure, message, core_seconds), self.patience)

    def close(self) -> None:
        """End the sandbox and the session."""
        self._end_sandbox()
        self.session.close()
        self.claims.database.close()

    def abandon(self) -> None:
        """Give no more signs of life and end the sandbox; the database, which is away, is not told."""
        self._end_sandbox()
        self.session.silence()
        self.claims.database.close()

    def _end_sandbox(self) -> None:
        if self._sandbox is not None:
            self._sandbox[1].close()
            self._sandbox = None

    def _cancel(self, attempts: frozenset[int]) -> None:
        """In the heartbeat thread: kill the running call when it is among `attempts`."""
        if self._attempt in attempts and self._sandbox is not None:
            self.cancelled.add(self._attempt)
            self._sandbox[1].cancel()


_workers: dict[tuple[str, int], Worker] = {}
_lock = threading.Lock()


def this_worker(url: str, scratch: str, patience: float, beat: float = BEAT_SECONDS) -> Worker:
    """The state of this worker for the database at `url`, made on first use; a worker has one thread of its own.

    Made anew where another campaign, which keeps its files elsewhere or has other deadlines, uses the same worker.
    """
    key = url, threading.get_ident()
    if key in _workers and _workers[key].settings != (scratch, patience, beat):
        old = _workers[key]
        _drop(key)
        old.close()
    if key not in _workers:
        worker = patiently(lambda: Worker(url, scratch, patience, beat), patience)
        atexit.register(worker.close)
        with _lock:
            _workers[key] = worker
    return _workers[key]


def forget(worker: Worker) -> None:
    """The next call on this thread makes a new one, which delivers what this one has left on disk."""
    for key in [k for k, w in _workers.items() if w is worker]:
        _drop(key)
    worker.abandon()


def _drop(key: tuple[str, int]) -> None:
    with _lock:
        atexit.unregister(_workers.pop(key).close)


def _writable(folder: Path) -> Path:
    """`folder`, or where it cannot be made on this host a folder of our own, the same for every worker after us."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except OSError:
        name = f"farfield-{os.getuid()}-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        own = Path(tempfile.gettempdir()) / name
        own.mkdir(mode=0o700, exist_ok=True)
        if own.stat().st_uid != os.getuid() or own.is_symlink():
            raise PermissionError(f"{own} belongs to somebody else; remove it, or make {folder}") from None
        return own
