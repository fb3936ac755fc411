from __future__ import annotations

import numba
import numpy as np
import pytest

from farfield.service.surrogate.kernels.vectors import BLOCK, WIDTH, slopes_and_sums, weighted_sum


@numba.njit
def _sum(first, last, index, weight, rows, out):
    weighted_sum(first, last, index, weight, rows, out.size, out)


@numba.njit
def _slopes(n, slope, value, along, across, d, out):
    slopes_and_sums(n, slope, value, along, across, d, out)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("blocks", [1, 3])
def test_weighted_sum_is_a_product_with_chosen_rows(count, blocks):
    rng = np.random.default_rng(count)
    rows = rng.normal(size=(20, blocks * BLOCK))
    index, weight = rng.integers(0, 20, 12), rng.normal(size=12)
    out = np.full(blocks * BLOCK, np.nan)
    _sum(2, 2 + count, index, weight, rows, out)
    assert np.allclose(out, weight[2 : 2 + count] @ rows[index[2 : 2 + count]], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 26])
def test_slopes_and_their_sums(n):
    rng = np.random.default_rng(n)
    room = -(-n // WIDTH) * WIDTH
    slope, value = rng.normal(size=(2, room))
    slope[n:], value[n:] = 0.0, 0.0
    along, across, d = rng.normal(size=(3, 3, room))
    out = np.full(3 * room + 2 * WIDTH, np.nan)
    _slopes(n, slope, value, along, across, d, out)
    f = (slope * along + value * across)[:, :n]
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    expected = [*f.ravel(), *f.sum(axis=1), *(f[a] @ d[b, :n] for a, b in pairs)]
    assert np.allclose(out[: 3 * n + 9], expected, rtol=1e-12, atol=1e-13)
