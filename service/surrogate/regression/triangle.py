"""One triangular factor per kind of observation: all that a fit needs of any number of rows.

For rows A (m, K) with labels y the factor of [A | y] holds A^T A, A^T y and y^T y without forming them, so a refit with
other weights costs the same at any history (decisions C8). Rows are unweighted; fixed row scalings (1/N for virials)
are the caller's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr

from farfield.errors import FitError
from farfield.oracles.packing import pack, unpack

__all__ = ["LARGEST", "Triangle", "in_range", "triangular"]

Array = NDArray[np.float64]

LARGEST = 1e100
"""Bound of rows and labels, weighted or not: their squares and sums stay numbers."""


class Triangle:
    """Factor of [A | y] for `size` columns; `count` rows have been added."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self._factor: Array = np.zeros((0, size + 1))

    def add(self, rows: ArrayLike, labels: ArrayLike) -> None:
        """Adds rows (m, K) or one row (K,) with labels (m,) or a number. Deterministic on one BLAS thread.

        Raises FitError for shapes that do not match or values that are not finite or beyond 1e100.
        """
        A = np.atleast_2d(np.asarray(rows, float))
        y = np.atleast_1d(np.asarray(labels, float)).ravel()
        if A.shape != (y.size, self.size):
            raise FitError(f"rows {A.shape} and labels {y.shape} do not fit {self.size} columns; rebuild the rows")
        if not in_range(A, y):
            raise FitError("rows or labels are not finite, or beyond 1e100; withdraw that observation")
        had = len(self._factor)
        stack = np.empty((had + y.size, self.size + 1), order="F")
        stack[:had] = self._factor
        stack[had:, :-1] = A
        stack[had:, -1] = y
        self._factor = triangular(stack)
        self.count += y.size

    @property
    def factor(self) -> Array:
        """Upper triangular (min(count, K + 1), K + 1); the last column belongs to the labels."""
        return self._factor

    @property
    def label_norm(self) -> float:
        """sqrt(sum y^2)."""
        return float(np.linalg.norm(self._factor[:, -1]))

    def residual_norm(self, coefficients: ArrayLike) -> float:
        """sqrt(sum (y - A c)^2) for coefficients (K,)."""
        c = np.asarray(coefficients, float)
        return float(np.linalg.norm(self._factor[:, -1] - self._factor[:, :-1] @ c))

    def residual_rms(self, coefficients: ArrayLike) -> float:
        """sqrt(mean (y - A c)^2); 0 without rows."""
        return self.residual_norm(coefficients) / float(np.sqrt(self.count)) if self.count else 0.0

    def copy(self) -> Triangle:
        """An independent copy."""
        other = Triangle(self.size)
        other.count = self.count
        other._factor = self._factor.copy()
        return other

    def pack(self) -> bytes:
        """Bytes from which `unpack` rebuilds it bit for bit."""
        return pack({"size": self.size, "count": self.count}, {"factor": self._factor})

    @classmethod
    def unpack(cls, data: bytes) -> Triangle:
        """The triangle of `pack`. Raises FitError for damaged bytes."""
        try:
            header, arrays = unpack(data)
            self = cls(int(header["size"]))
            self.count = int(header["count"])
            self._factor = arrays["factor"]
        except (ValueError, KeyError, TypeError) as error:
            raise FitError(f"a stored triangle is damaged ({error}); rebuild it from the record") from error
        if self._factor.shape != (min(self.count, self.size + 1), self.size + 1):
            raise FitError("a stored triangle has the wrong shape; rebuild it from the record")
        return self


def in_range(*arrays: Array) -> bool:
    """Whether all values are numbers whose squares can be summed."""
    return all(bool(np.abs(a).max(initial=0.0) < LARGEST) for a in arrays)


def triangular(stack: Array) -> Array:
    """R of a QR factorisation, (min(m, n), n), C order, diagonal not negative; `stack` is destroyed."""
    m, n = stack.shape
    (factor,) = qr(stack, mode="r", overwrite_a=True, check_finite=False)
    r: Array = np.ascontiguousarray(np.triu(factor[: min(m, n)]), float)
    r[np.diagonal(r) < 0] *= -1
    return r
