"""Structured logs: what controller and workers do, a JSON line for each event, in the run folder's `log`.

A line has time (seconds since 1970 by the host's clock), level, source, message, host and pid, and what else the event
tells: attempt, calculation, failure, seconds. A file is turned over at 10 MB and one old one is kept. The record
holds the truth; these lines are for those who collect logs.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from farfield.service.runner.host import this_host

__all__ = ["JsonLines", "log_to", "logged_to"]

LARGEST = 10_000_000
"""Bytes."""
PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
SOURCES = ("farfield", "distributed")

_lock = threading.Lock()
_handlers: dict[str, logging.Handler] = {}


class JsonLines(logging.Formatter):
    """One JSON object per line; what a record carries besides the usual becomes keys of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.host = this_host()[0]

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "source": record.name,
            "message": record.getMessage(),
            "host": self.host,
            "pid": record.process,
            **{k: v for k, v in vars(record).items() if k not in PLAIN},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Lines(RotatingFileHandler):
    """A log file; what finds no room on its disk is left out of it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name is logging's
        """Say nothing of a full or lost disk, which concerns the calls and is told by them."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_to(folder: str, role: str) -> None:
    """Write the logs of this process to `<role>-<host>-<pid>.jsonl` in `folder` from now on; once is enough.

    Nothing where `folder` is empty, or cannot be made here: a worker on another host may not see it.
    """
    if not folder or folder in _handlers:
        return
    with _lock:
        if folder in _handlers:
            return
        path = Path(folder) / f"{role}-{this_host()[0]}-{os.getpid()}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handler: logging.Handler = Lines(path, maxBytes=LARGEST, backupCount=1, encoding="utf-8")
        except OSError as fault:
            logging.getLogger("farfield").warning("no log in %s: %s", folder, fault)
            handler = logging.NullHandler()
        handler.setFormatter(JsonLines())
        _handlers[folder] = handler
        logging.getLogger("farfield").setLevel(logging.INFO)
        for source in SOURCES:
            logging.getLogger(source).addHandler(handler)


@contextmanager
def logged_to(folder: Path, role: str) -> Iterator[None]:
    """`log_to` while the context lasts."""
    log_to(str(folder), role)
    try:
        yield
    finally:
        with _lock:
            handler = _handlers.pop(str(folder), None)
        if handler is not None:
            for source in SOURCES:
                logging.getLogger(source).removeHandler(handler)
            handler.close()
