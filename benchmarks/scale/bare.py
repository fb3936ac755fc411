"""The floor: `client.submit` of tasks that sleep as long and make the same two commits with the driver alone.

The first commit claims a row, the second ends it, with the answer as one blob and three narrow rows, as a worker of
ours does; no checks, no claims that anybody compares, no leases, no files.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from sleeping import SleepingOracle

from farfield.db.identity import structure_atoms, structure_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from distributed import Client

CONNECTIONS = 8
TABLES = (
    "CREATE TABLE IF NOT EXISTS bare_call (id INTEGER PRIMARY KEY, state TEXT, started REAL, seconds REAL,"
    " data {blob})",
    "CREATE TABLE IF NOT EXISTS bare_value (id INTEGER, kind TEXT, value REAL, PRIMARY KEY (id, kind))",
)
_pools: dict[str, queue.Queue[Any]] = {}
_lock = threading.Lock()


def _connect(url: str) -> tuple[Any, str]:
    """A bare connection and the driver's mark of a parameter."""
    if url.startswith("sqlite:///"):
        import sqlite3

        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=600, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection, "?"
    import psycopg

    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql")), "%s"


def make_tables(url: str) -> None:
    connection, _ = _connect(url)
    for text in TABLES:
        connection.execute(text.format(blob="BLOB" if url.startswith("sqlite") else "BYTEA"))
    connection.commit()
    connection.close()


def _pool(url: str) -> queue.Queue[Any]:
    with _lock:
        if url not in _pools:
            _pools[url] = queue.Queue()
            for _ in range(1 if url.startswith("sqlite") else CONNECTIONS):
                _pools[url].put(_connect(url))
        return _pools[url]


def task(url: str, number: int, structure: bytes, scale: float) -> float:
    """Claim, sleep, answer; the seconds slept."""
    pool = _pool(url)
    connection, mark = pool.get()
    connection.execute(
        f"INSERT INTO bare_call (id, state, started) VALUES ({mark}, 'running', {mark})",  # noqa: S608
        (number, time.time()),
    )
    connection.commit()
    pool.put((connection, mark))
    observed = SleepingOracle(scale).evaluate(structure_atoms(structure), ("E", "F", "V"))
    values = {k: np.asarray(v) for k, v in observed.values.items()}
    data = b"".join(v.tobytes() for v in values.values())
    connection, mark = pool.get()
    connection.execute(
        f"UPDATE bare_call SET state = 'finished', seconds = {mark}, data = {mark} WHERE id = {mark}",  # noqa: S608
        (observed.seconds, data, number),
    )
    for kind, value in values.items():
        connection.execute(
            f"INSERT INTO bare_value (id, kind, value) VALUES ({mark}, {mark}, {mark})",  # noqa: S608
            (number, kind, float(value.ravel()[0])),
        )
    connection.commit()
    pool.put((connection, mark))
    return float(observed.seconds or 0.0)


def empty(number: int) -> int:
    """The task that does nothing."""
    return number


def measure_bare(client: Client, url: str, cells: Sequence[Atoms], scale: float, ahead: int) -> tuple[float, float]:
    """Seconds of wall clock, and slept by all tasks together; at most `ahead` tasks are submitted at a time."""
    make_tables(url)
    offset = int(time.time() * 1000) % 1_000_000 * 1000
    orders = [(url, offset + k, structure_bytes(atoms), scale) for k, atoms in enumerate(cells)]
    began = time.perf_counter()
    return _all(client, task, orders, ahead), time.perf_counter() - began


def measure_empty(client: Client, count: int, ahead: int) -> float:
    """Seconds that so many empty tasks take."""
    began = time.perf_counter()
    _all(client, empty, [(k,) for k in range(count)], ahead)
    return time.perf_counter() - began


def _all(client: Client, function: Any, orders: Sequence[tuple[Any, ...]], ahead: int) -> float:
    from distributed import as_completed

    waiting = iter(orders)
    first = [client.submit(function, *order, pure=False) for _, order in zip(range(ahead), waiting, strict=False)]
    done, total = as_completed(first, loop=client.loop, with_results=True), 0.0
    for _, result in done:
        total += float(result)
        if (order := next(waiting, None)) is not None:
            done.add(client.submit(function, *order, pure=False))
    return total
