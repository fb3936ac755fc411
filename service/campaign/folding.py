"""Rows of one kind on their way into its triangle, in blocks.

A block is as long as the triangle is wide, so that many small cells cost few factorisations and memory stays flat:
beside the triangle there is never more than one block and the rows of one label. Where a block ends follows from the
order of the rows alone. So a triangle that was rebuilt from the record equals, to the last bit, the one that grew with
it, and a resumed campaign replays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from farfield.service.surrogate import Triangle

__all__ = ["Fold"]

Array = NDArray[np.float64]


class Fold:
    """A triangle of `size` columns and the rows that are not in it yet."""

    def __init__(self, size: int) -> None:
        self._whole = Triangle(size)
        self._rows: list[Array] = []
        self._labels: list[Array] = []
        self._waiting = 0
        self._current: Triangle | None = self._whole

    def add(self, rows: Array, labels: Array) -> None:
        """Add rows (m, K) with labels (m,). They are kept until their block is full: do not change them.

        Raises FitError, at once or when the block is folded, for values that are not finite.
        """
        self._rows.append(rows)
        self._labels.append(labels)
        self._waiting += len(labels)
        self._current = None
        if self._waiting > self._whole.size:
            self._fold(self._whole)
            self._rows, self._labels, self._waiting = [], [], 0

    @property
    def triangle(self) -> Triangle:
        """The factor of all rows so far."""
        if self._current is None:
            self._current = self._whole
            if self._waiting:
                self._current = self._whole.copy()
                self._fold(self._current)
        return self._current

    def _fold(self, triangle: Triangle) -> None:
        one = len(self._rows) == 1
        triangle.add(
            self._rows[0] if one else np.vstack(self._rows), self._labels[0] if one else np.concatenate(self._labels)
        )
