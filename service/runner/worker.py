"""What a worker process keeps between tasks: its database, its session with a heartbeat, and the oracle's sandbox."""

from __future__ import annotations

import atexit
import json
import logging
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from farfield.db import answers
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.oracles import registry
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.oracles.sandbox import Sandbox
from farfield.service.runner.session import Session

if TYPE_CHECKING:
    from farfield.service.runner.task import Order

__all__ = ["Worker", "patiently", "this_worker"]

T = TypeVar("T")
log = logging.getLogger(__name__)


def patiently(action: Callable[[], T], patience: float) -> T:
    """`action()`, again with growing pauses while the database is away, for `patience` seconds (decisions A7).

    The action must be one whole transaction: nothing of a failed try remains.
    """
    deadline = time.monotonic() + patience
    pause = 0.1
    while True:
        try:
            return action()
        except (OperationalError, InterfaceError) as fault:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("the database is away, trying again in %.1f s: %s", pause, str(fault.orig))
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 30.0)


class Worker:
    """State of one worker process for one database. One task at a time uses it (workers have one thread)."""

    def __init__(self, url: str, scratch: str, patience: float) -> None:
        self.url, self.patience = url, patience
        self.claims = Claims(open_database(url))
        self.session = Session(self.claims, on_cancel=self._cancel)
        self.folder = _writable(Path(scratch))
        self._sandbox: tuple[str, Sandbox] | None = None
        self._attempt: int | None = None
        self._fingerprints: dict[str, str] = {}

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
            self._sandbox[1].close()
            self._sandbox = None
        if self._sandbox is None:
            box = Sandbox(order.oracle, order.parameters, order.wall_time, order.memory, self.folder, base=order.base)
            self._sandbox = (key, box)
        self._attempt = attempt
        try:
            yield self._sandbox[1]
        finally:
            self._attempt = None

    def deliver(self, answer: answers.AnswerFile) -> None:
        """Write the answer to a file, commit it, delete the file."""
        path = answers.write(self.folder / "answers", answer)
        patiently(lambda: self.claims.finish_answer(answer), self.patience)
        path.unlink(missing_ok=True)

    def fail(self, attempt: int, failure: str, message: str, core_seconds: float) -> None:
        """Record a failed attempt."""
        patiently(lambda: self.claims.fail(attempt, failure, message, core_seconds), self.patience)

    def close(self) -> None:
        """End the sandbox and the session."""
        if self._sandbox is not None:
            self._sandbox[1].close()
            self._sandbox = None
        self.session.close()

    def _cancel(self, attempts: frozenset[int]) -> None:
        """In the heartbeat thread: kill the running call when it is among `attempts`."""
        if self._attempt in attempts and self._sandbox is not None:
            self._sandbox[1].cancel()


_workers: dict[tuple[str, int], Worker] = {}
_lock = threading.Lock()


def this_worker(url: str, scratch: str, patience: float) -> Worker:
    """The state of this worker for the database at `url`, made on first use; a worker has one thread of its own."""
    key = url, threading.get_ident()
    if key not in _workers:
        worker = Worker(url, scratch, patience)
        atexit.register(worker.close)
        with _lock:
            _workers[key] = worker
    return _workers[key]


def _writable(folder: Path) -> Path:
    """`folder`, or a folder of our own where it cannot be made on this host."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="farfield-"))
    return folder
