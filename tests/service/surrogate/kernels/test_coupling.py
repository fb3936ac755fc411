from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from farfield.service.surrogate.kernels.coupling import real_coupling, wigner_3j
from farfield.service.surrogate.reference import harmonics

TRIPLES = [(0, 0, 0), (1, 1, 0), (1, 1, 2), (2, 2, 2), (1, 2, 3), (3, 3, 4), (2, 4, 4), (5, 4, 3)]


def test_wigner_3j_known_values():
    assert wigner_3j(1, 1, 0, 0, 0, 0) == pytest.approx(-1 / np.sqrt(3))
    assert wigner_3j(2, 2, 2, 0, 0, 0) == pytest.approx(-np.sqrt(2 / 35))
    assert wigner_3j(2, 1, 1, 0, 1, -1) == pytest.approx(np.sqrt(1 / 30))
    assert wigner_3j(2, 1, 1, 1, 1, -1) == 0


@pytest.mark.parametrize("ls", TRIPLES)
def test_coupling_is_the_normalised_gaunt_tensor(ls):
    """For an even sum the only invariant is proportional to the integral of three harmonics."""
    z, wz = np.polynomial.legendre.leggauss(16)
    angle = 2 * np.pi * np.arange(33) / 33
    u = np.array([(np.sqrt(1 - c * c) * np.cos(a), np.sqrt(1 - c * c) * np.sin(a), c) for c in z for a in angle])
    w = np.repeat(wz, 33) * 2 * np.pi / 33
    gaunt = np.einsum("n,an,bn,cn->abc", w, *(harmonics(k, u)[0] for k in ls))
    gaunt /= np.linalg.norm(gaunt)
    W = real_coupling(*ls)
    assert np.linalg.norm(W) == pytest.approx(1, abs=1e-13)
    assert min(abs(W - gaunt).max(), abs(W + gaunt).max()) < 1e-13


@pytest.mark.parametrize("ls", TRIPLES)
def test_contraction_is_rotation_invariant(ls):
    rng = np.random.default_rng(0)
    points = [rng.normal(size=(1, 3)) for _ in ls]
    Q = Rotation.random(rng=3).as_matrix()

    def value(turn):
        ys = [harmonics(k, (p / np.linalg.norm(p)) @ turn.T)[0][:, 0] for k, p in zip(ls, points, strict=True)]
        return np.einsum("abc,a,b,c", real_coupling(*ls), *ys)

    assert value(Q) == pytest.approx(value(np.eye(3)), rel=1e-12, abs=1e-14)
    assert value(-Q) == pytest.approx(value(np.eye(3)), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("ls", [(1, 1, 1), (0, 1, 2), (1, 1, 4)])
def test_odd_sums_and_broken_triangles_are_refused(ls):
    with pytest.raises(ValueError, match="no real invariant"):
        real_coupling(*ls)
