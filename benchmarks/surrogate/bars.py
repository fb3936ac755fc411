"""What a measurement is held against, the clock, and the lines of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Line:
    """One line of the table: `met` is None where nothing is demanded or a peer is missing."""

    what: str
    measured: str
    bar: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """met, MISSED, or nothing."""
        return "" if self.met is None else "met" if self.met else "MISSED"

    def __str__(self) -> str:
        return f"| {self.what} | {self.measured} | {self.bar} | {self.verdict} |"


HEAD = ["| what | measured | bar | |", "|---|---|---|---|"]


def race(runs: Mapping[str, Callable[[], Any]], rounds: int = 7) -> dict[str, float]:
    """Best process CPU time of each, in s: all take a turn in every round, after one turn that does not count."""
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return best


def difference(a: ArrayLike, b: ArrayLike) -> float:
    """max|a - b| / max|b| over the array."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    return float(np.abs(x - y).max() / np.abs(y).max())
