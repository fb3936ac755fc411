from __future__ import annotations

import numpy as np
import pytest

from farfield.errors import FitError
from farfield.service.surrogate import Triangle


def _rows(count, size=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) * np.logspace(0, -6, size), rng.normal(size=count)


@pytest.mark.parametrize("pieces", [[40], [1] * 40, [3, 1, 30, 6]])
def test_factor_holds_all_that_the_rows_say(pieces):
    A, y = _rows(40)
    triangle, at = Triangle(12), 0
    for m in pieces:
        triangle.add(A[at : at + m] if m > 1 else A[at], y[at : at + m])
        at += m
    whole = np.linalg.qr(np.column_stack([A, y]), mode="r")
    whole *= np.sign(np.diagonal(whole))[:, None]
    assert triangle.count == 40
    assert np.abs(triangle.factor - whole).max() < 1e-13 * np.abs(whole).max()
    assert np.array_equal(triangle.factor, np.triu(triangle.factor))
    c = np.random.default_rng(1).normal(size=12) * 1e3
    assert triangle.residual_norm(c) == pytest.approx(np.linalg.norm(y - A @ c), rel=1e-12)
    assert triangle.residual_rms(c) == pytest.approx(np.sqrt(np.mean((y - A @ c) ** 2)), rel=1e-12)
    assert triangle.label_norm == pytest.approx(np.linalg.norm(y), rel=1e-12)


def test_few_rows_stay_a_trapezoid():
    A, y = _rows(5)
    triangle = Triangle(12)
    triangle.add(A, y)
    assert triangle.factor.shape == (5, 13)
    assert triangle.residual_norm(np.zeros(12)) == pytest.approx(np.linalg.norm(y))
    assert Triangle(12).residual_rms(np.zeros(12)) == 0.0


def test_same_rows_give_the_same_bits():
    A, y = _rows(50)
    bits = set()
    for _ in range(3):
        triangle = Triangle(12)
        triangle.add(np.asfortranarray(A), y)
        bits.add(triangle.pack())
    assert len(bits) == 1


def test_bytes_round_trip_is_exact_and_copies_are_independent():
    A, y = _rows(50)
    triangle = Triangle(12)
    triangle.add(A, y)
    again = Triangle.unpack(triangle.pack())
    assert again.count == 50
    assert again.factor.tobytes() == triangle.factor.tobytes()
    copy = triangle.copy()
    copy.add(A[0], y[:1])
    assert (copy.count, triangle.count) == (51, 50)
    assert not np.array_equal(copy.factor, triangle.factor)


def test_bad_rows_and_bytes_are_refused():
    A, y = _rows(5)
    triangle = Triangle(12)
    with pytest.raises(FitError, match="columns"):
        triangle.add(A[:, :4], y)
    with pytest.raises(FitError, match="columns"):
        triangle.add(A, y[:2])
    with pytest.raises(FitError, match="finite"):
        triangle.add(A * np.inf, y)
    with pytest.raises(FitError, match="finite"):
        triangle.add(A, y * np.nan)
    with pytest.raises(FitError, match="1e100"):
        triangle.add(A, y * 1e200)
    assert triangle.count == 0
    triangle.add(np.zeros((0, 12)), [])
    assert (triangle.count, triangle.factor.shape) == (0, (0, 13))
    with pytest.raises(FitError, match="damaged"):
        Triangle.unpack(b"nothing")
