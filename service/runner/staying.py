"""A Dask worker that loses its scheduler, or is told to leave, stays until its call has ended and its answer is stored.

By itself it would wait for thirty seconds and end, and the call with it. The answer needs no scheduler: it goes to the
database, where the controller finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import WorkerPlugin, get_worker

__all__ = ["Stay", "staying"]

NAME = "farfield-stay"
POLL_SECONDS = 0.2


class Stay(WorkerPlugin):
    """Holds up the end of its worker. `calls`: how many are under way there."""

    name = NAME

    def __init__(self) -> None:
        self.calls = 0

    async def teardown(self, worker: Any) -> None:
        """The worker closes."""
        while self.calls:
            await asyncio.sleep(POLL_SECONDS)


@contextmanager
def staying() -> Iterator[None]:
    """A call is under way on the Dask worker of this thread, if it is one."""
    try:
        worker: Any = get_worker()
    except ValueError:
        yield  # called by hand
        return
    plugin = worker.plugins.get(NAME)
    if not isinstance(plugin, Stay):
        plugin = Stay()
        worker.loop.add_callback(worker.plugin_add, plugin, NAME)
    plugin.calls += 1
    try:
        yield
    finally:
        plugin.calls -= 1
