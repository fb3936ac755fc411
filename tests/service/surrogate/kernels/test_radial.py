from __future__ import annotations

import numpy as np
import pytest

from farfield.service.surrogate.kernels.radial import RadialBasis, orthonormal_recursion

RADIAL = RadialBasis(cutoff=5.2, r0=2.5, many=9, pair=8)


def test_map_is_steepest_between_the_first_shells():
    r = np.linspace(0.5, 5.2, 20001)
    _, dy = RADIAL.mapped(r)
    assert r[np.argmin(dy)] == pytest.approx(1.2 * 2.5, abs=2e-3)
    assert RADIAL.mapped(np.array([1e-12, 5.2]))[0] == pytest.approx([1, -1])


def test_recursion_gives_orthonormal_polynomials():
    def weight(y):
        return ((1 + y) / 2) ** 6

    a, b = orthonormal_recursion(9, weight)
    y, w = np.polynomial.legendre.leggauss(200)
    P = [np.full_like(y, 1 / b[0])]
    for k in range(8):
        P.append(((y - a[k]) * P[k] - (b[k] * P[k - 1] if k else 0)) / b[k + 1])
    gram = np.einsum("n,an,bn->ab", w * weight(y), np.array(P), np.array(P))
    assert abs(gram - np.eye(9)).max() < 1e-12


def test_slopes_are_derivatives():
    r, h = np.linspace(1.5, 5.1, 50), 1e-5
    up, down = RADIAL.evaluate(r + h)[0], RADIAL.evaluate(r - h)[0]
    values, slopes = RADIAL.evaluate(r)
    assert abs((up - down) / (2 * h) - slopes).max() < 1e-8 * abs(slopes).max()
    assert values.shape == (17, 50)


def test_second_derivatives_vanish_at_the_cutoff():
    near = np.array([5.2 - 1e-4])
    values, slopes = RADIAL.evaluate(near)
    scale = abs(RADIAL.evaluate(np.array([4.0]))[1]).max()
    assert abs(values).max() < 1e-9 * scale
    assert abs(slopes).max() < 1e-5 * scale
    assert not RADIAL.evaluate(np.array([5.2, 6.0]))[0].any()


def test_pair_set_keeps_a_wall_and_many_body_set_is_flat_at_the_origin():
    values, slopes = RADIAL.evaluate(np.array([1e-3]))
    assert abs(slopes[:9]).max() < 1e-6
    assert abs(values[9]).min() > 1e3


def test_functions_end_inside_the_core_and_are_as_before_beyond_it():
    faded = RadialBasis(cutoff=5.2, r0=2.5, many=9, pair=8, core=2.0)
    beyond, inside = np.linspace(2.0, 5.0, 20), np.linspace(0.3, 1.2, 20)
    assert np.array_equal(faded.evaluate(beyond)[0], RADIAL.evaluate(beyond)[0])
    assert np.array_equal(faded.evaluate(beyond)[1], RADIAL.evaluate(beyond)[1])
    assert not faded.evaluate(inside)[0].any()
    assert not faded.evaluate(inside)[1].any()
    r, h = np.linspace(1.21, 2.1, 50), 1e-6
    slope = (faded.evaluate(r + h)[0] - faded.evaluate(r - h)[0]) / (2 * h)
    assert abs(slope - faded.evaluate(r)[1]).max() < 1e-7 * abs(slope).max()
    for edge in (1.2, 2.0):  # two derivatives: the second differences across the edge agree to first order
        bend = [
            (faded.evaluate(np.array([edge + s * 2e-4 + h]))[1] - faded.evaluate(np.array([edge + s * 2e-4 - h]))[1])
            for s in (1, -1)
        ]
        assert abs(bend[0] - bend[1]).max() / (2 * h) < 0.01 * abs(slope).max() / 2e-1
