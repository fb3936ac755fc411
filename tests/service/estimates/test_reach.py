from __future__ import annotations

import numpy as np
import pytest

from farfield.service.cells import Host
from farfield.service.estimates.reach import SHARE, longest_edge, reach

HOST = Host.named("fcc", ["Cu"], 3.6)
SIZE = (3, 3, 3)


def constants(values: dict[float, float]) -> np.ndarray:
    """Isotropic force constants of given strength (eV/Å^2) on shells at given distances, Å."""
    from farfield.service.estimates.lattice import nearest_distances

    d = nearest_distances(HOST, SIZE)
    C = np.zeros((len(d), 3, HOST.nb, 3))
    for r, k in values.items():
        rows, b = np.nonzero(np.abs(d - r) < 1e-3)
        C[rows, :, b] = k * np.eye(3)
    return C.reshape(*SIZE, HOST.nb, 3, HOST.nb, 3)


FIRST, SECOND, THIRD = 3.6 / np.sqrt(2), 3.6, 3.6 * np.sqrt(1.5)


def test_it_ends_at_the_last_shell_that_counts() -> None:
    assert np.isclose(reach(HOST, constants({FIRST: 1.0}), SIZE), FIRST)
    assert np.isclose(reach(HOST, constants({FIRST: 1.0, THIRD: 0.1}), SIZE), THIRD)
    # twelve bonds of 1 against twenty-four of SHARE / 10: below the share
    assert np.isclose(reach(HOST, constants({FIRST: 1.0, THIRD: SHARE / 10}), SIZE), FIRST)


def test_self_terms_and_units_do_not_count() -> None:
    C = constants({FIRST: 1.0, SECOND: 0.5})
    big = C + constants({0.0: -1e6})
    assert reach(HOST, big, SIZE) == pytest.approx(reach(HOST, 1e-3 * C, SIZE)) == pytest.approx(SECOND)


def test_edges_are_lengths() -> None:
    assert longest_edge(HOST, []) == 0.0
    assert np.isclose(longest_edge(HOST, [(2, 2, 2), (2, 2, 3)]), 3 * 3.6)
    skew = Host.named("hcp", ["Mg"], 3.2)
    assert np.isclose(longest_edge(skew, [(2, 1, 1)]), max(6.4, 3.2 * np.sqrt(3), np.linalg.norm(skew.cell[2])))
