"""The end of a local cluster: in order where Dask comes to an end with it, at once where it does not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

__all__ = ["closed_at_end", "end_at_once"]

log = logging.getLogger("farfield.controller")

CLOSE_SECONDS = 60.0
"""How long workers may take to leave. Nothing is lost with them: every answer is in the record or on disk."""


@contextmanager
def closed_at_end(cluster: Cluster) -> Iterator[None]:
    """Close a local `cluster` at the end. Dask waits for its nannies without a limit, and one that misses the end of
    its worker would keep a finished campaign from returning."""
    try:
        yield
    finally:
        try:
            cluster.close(timeout=CLOSE_SECONDS)
        except TimeoutError:
            log.warning("the cluster does not close within %g s; its workers are killed", CLOSE_SECONDS)
            end_at_once(cluster)


def end_at_once(cluster: Cluster) -> None:
    """Kill the workers of a local cluster: nobody waits for the calls in them, and their supervisors clean up."""
    import psutil
    from distributed.core import Status

    over = (Status.closing, Status.closed, Status.failed)
    for nanny in getattr(cluster, "workers", {}).values():
        if nanny.status not in over:
            nanny.status = Status.closing_gracefully  # else it starts its worker again
        try:
            if getattr(nanny, "pid", None) is not None:
                psutil.Process(nanny.pid).kill()
        except psutil.NoSuchProcess:
            continue
