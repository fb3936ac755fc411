"""A running count on a terminal, for what takes a while; silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["counter"]


@contextmanager
def counter(doing: str, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes how many are done; the line goes to stderr, and away at the end."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{doing} ...") as line:
        yield lambda done: line.update(f"{doing} {done} ...") if done % 100 == 0 else None
