"""What a selection holds: which fields have values, how often each word occurs, ranges and histograms of the numbers.

One pass with flat memory: a histogram doubles its width whenever a value falls outside.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from farfield.db.query.scalars import Scalars

__all__ = ["Discovery", "Numbers", "discover"]

WORDS = ("oracle", "campaign", "role", "term", "state", "failure", "kinds", "formula")
NUMBERS = {
    "natoms": "atoms",
    "energy": "eV",
    "energy_per_atom": "eV",
    "fmax": "eV/Å",
    "virial": "eV",
    "core_seconds": "s",
    "decision": "",
    "n1": "cells",
    "n2": "cells",
    "n3": "cells",
}
BINS = 32
DISTINCT = 10_000
"""Words of a field that are told apart; the rest count as "other"."""
LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass
class Numbers:
    """Count, range, mean and a histogram of one field, in `unit`."""

    unit: str
    count: int = 0
    least: float = math.inf
    most: float = -math.inf
    total: float = 0.0
    _start: float = 0.0
    _width: float = 0.0
    _bins: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, value: float) -> None:
        """Take a value in."""
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)
        if self.count == 1:
            self._width = max(abs(value), 1e-6) / BINS
            self._start = value - self._width * BINS / 2
        while not self._start <= value < self._start + BINS * self._width:
            self._widen(value < self._start)
        self._bins[int((value - self._start) / self._width) if value > self._start else 0] += 1

    def _widen(self, left: bool) -> None:
        half = [self._bins[i] + self._bins[i + 1] for i in range(0, BINS, 2)]
        empty = [0] * (BINS // 2)
        self._bins = empty + half if left else half + empty
        if left:
            self._start -= BINS * self._width
        self._width *= 2

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return self.total / self.count

    def histogram(self) -> list[tuple[float, float, int]]:
        """(from, to, count) of each bin from the first to the last that is not empty."""
        full = [i for i, n in enumerate(self._bins) if n]
        edges = [self._start + i * self._width for i in range(BINS + 1)]
        return [(edges[i], edges[i + 1], self._bins[i]) for i in range(full[0], full[-1] + 1)]

    def bars(self) -> str:
        """The histogram as a line of bars."""
        counts = [n for *_, n in self.histogram()]
        top = max(counts)
        return "".join(LEVELS[math.ceil(n / top * (len(LEVELS) - 1))] for n in counts)


@dataclass
class Discovery:
    """Of `count` calculations: how often each word occurs by field, and the numbers."""

    count: int = 0
    words: dict[str, Counter[str]] = field(default_factory=dict)
    numbers: dict[str, Numbers] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return {
            "count": self.count,
            "words": {name: dict(words.most_common()) for name, words in self.words.items()},
            "numbers": {
                name: {"unit": n.unit, "count": n.count, "least": n.least, "most": n.most, "mean": n.mean}
                | {"histogram": n.histogram()}
                for name, n in self.numbers.items()
            },
        }


def discover(rows: Iterable[Scalars]) -> Discovery:
    """What `rows` hold."""
    found = Discovery()
    for row in rows:
        found.count += 1
        for name in WORDS:
            value = getattr(row, name)
            for word in value.split(",") if name == "kinds" and value else [value]:
                if word not in (None, ""):
                    words = found.words.setdefault(name, Counter())
                    words[word if word in words or len(words) < DISTINCT else "other"] += 1
        for name, unit in NUMBERS.items():
            per_atom = None if row.energy is None else row.energy / row.natoms
            number = per_atom if name == "energy_per_atom" else getattr(row, name)
            if number is not None:
                found.numbers.setdefault(name, Numbers(unit)).add(number)
    found.words = {name: found.words[name] for name in WORDS if name in found.words}
    found.numbers = {name: found.numbers[name] for name in NUMBERS if name in found.numbers}
    return found
