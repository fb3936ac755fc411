from __future__ import annotations

import numpy as np

from farfield.service.cells import Host, first_rung, half_width, is_complete, next_rung
from farfield.service.cells.ladder import heights, next_complete

CU = Host.named("fcc", ["Cu"], 3.6)


def test_cubic_ladder_grows_along_c_then_b_then_a() -> None:
    size, seen = (2, 2, 2), []
    for _ in range(6):
        size = next_rung(CU, size)
        seen.append(size)
    assert seen == [(2, 2, 3), (2, 3, 3), (3, 3, 3), (3, 3, 4), (3, 4, 4), (4, 4, 4)]


def test_only_cubes_are_complete() -> None:
    assert is_complete(CU, (3, 3, 3))
    assert not is_complete(CU, (3, 3, 4))
    assert not is_complete(CU, (3, 4, 4))
    assert next_complete(CU, (3, 3, 4)) == (4, 4, 4)


def test_half_width_is_half_the_smallest_height() -> None:
    assert np.allclose(heights(CU, (2, 3, 4)), [7.2, 10.8, 14.4])
    assert np.isclose(half_width(CU, (2, 3, 4)), 3.6)


def test_first_rung_is_the_smallest_complete_one() -> None:
    assert first_rung(CU, 3.5) == (2, 2, 2)
    assert first_rung(CU, 3.61) == (3, 3, 3)
