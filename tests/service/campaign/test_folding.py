"""Blocks of rows: the same factor at any rhythm, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from farfield.errors import FitError
from farfield.service.campaign.folding import Fold
from farfield.service.surrogate import Triangle

K = 7


def pieces(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(m, K)), rng.normal(size=m)) for m in (1, 1, 3, 24, 1, 9, 1, 1, 1, 6, 1)]


def test_a_fold_is_the_triangle_of_all_its_rows() -> None:
    fold = Fold(K)
    for rows, labels in pieces():
        fold.add(rows, labels)
    A, y = np.vstack([a for a, _ in pieces()]), np.concatenate([b for _, b in pieces()])
    R = fold.triangle.factor
    stack = np.column_stack([A, y])
    assert np.allclose(R.T @ R, stack.T @ stack, rtol=1e-12)
    assert fold.triangle.count == len(y)


def test_looking_in_between_changes_no_bit() -> None:
    """A campaign fits every round, a resumed one once: both must have the same factor."""
    watched, left_alone = Fold(K), Fold(K)
    for rows, labels in pieces():
        watched.add(rows, labels)
        _ = watched.triangle
        left_alone.add(rows, labels)
    assert np.array_equal(watched.triangle.factor, left_alone.triangle.factor)
    one_by_one = Triangle(K)
    for rows, labels in pieces():
        one_by_one.add(rows, labels)
    assert not np.array_equal(watched.triangle.factor, one_by_one.factor)  # the blocks are really there
    assert np.allclose(watched.triangle.factor, one_by_one.factor, atol=1e-12)


def test_no_more_than_a_block_waits() -> None:
    fold = Fold(K)
    for _ in range(200):
        fold.add(np.ones((1, K)), np.ones(1))
        assert sum(len(r) for r in fold._rows) <= K


def test_an_empty_fold_has_no_rows_and_bad_values_are_refused() -> None:
    assert Fold(K).triangle.count == 0
    fold = Fold(K)
    fold.add(np.full((1, K), np.nan), np.zeros(1))
    with pytest.raises(FitError, match="not finite"):
        _ = fold.triangle
