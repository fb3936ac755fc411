from __future__ import annotations

import numpy as np
import pytest
from harmonic import constants, dense

from farfield.service.cells import Defect, DefectCell, Host, half_width
from farfield.service.estimates import LatticeOperator, dual_norm, interpolate, outer_shell
from farfield.service.estimates.lattice import dual_force_norm


def operator(h, size):  # type: ignore[no-untyped-def]
    return h.operator(size)


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 2, 3)])
def test_apply_is_the_dense_matrix(oracle, size) -> None:  # type: ignore[no-untyped-def]
    op = oracle.operator(size)
    H = dense(op)
    U = np.random.default_rng(0).normal(size=(len(H) // 3, 3))
    assert np.allclose(op.apply(U).ravel(), H @ U.ravel(), atol=1e-10)
    assert np.allclose(H, H.T, atol=1e-10)
    assert np.isclose(op.energy(U), U.ravel() @ H @ U.ravel())


def test_solve_inverts_apply_without_translations(oracle) -> None:  # type: ignore[no-untyped-def]
    op = oracle.operator((3, 3, 3))
    R = np.random.default_rng(1).normal(size=(108, 3))
    R -= R.mean(axis=0)
    assert np.allclose(op.apply(op.solve(R)), R, atol=1e-9)
    assert np.abs(op.solve(np.ones((108, 3)))).max() < 1e-9  # a net force has no answer
    several = np.stack([R, 2 * R], axis=-1)
    assert np.allclose(op.solve(several)[..., 1], 2 * op.solve(R))


def test_extremes_are_the_dense_generalised_eigenvalues(oracle) -> None:  # type: ignore[no-untyped-def]
    size = (2, 2, 3)
    op = oracle.operator(size)
    cell = DefectCell(op.host, Defect(changed=((0, "Cu"),)), size)
    i, j = cell.bonds
    n = cell.natoms
    D = np.zeros((n, n))
    np.add.at(D, (i, i), 1.0)
    np.add.at(D, (j, j), 1.0)
    np.add.at(D, (i, j), -1.0)
    np.add.at(D, (j, i), -1.0)
    w, v = np.linalg.eigh(D)
    root = (v[:, 1:] / np.sqrt(w[1:])) @ v[:, 1:].T  # translations out
    S = np.kron(root, np.eye(3))
    e = np.linalg.eigvalsh(S @ dense(op) @ S)
    e = e[np.abs(e) > 1e-9]
    assert np.isclose(op.gamma, e.min(), rtol=1e-8)
    assert np.isclose(dual_norm(op), np.abs(e).max(), rtol=1e-8)
    R = np.random.default_rng(2).normal(size=(n, 3))
    R -= R.mean(axis=0)
    assert np.isclose(dual_force_norm(op.host, size, R), np.linalg.norm(root @ R))


def test_minimum_leaves_translations_out(oracle) -> None:  # type: ignore[no-untyped-def]
    op = oracle.operator((2, 2, 2))
    w = np.linalg.eigvalsh(dense(op))
    assert np.isclose(op.minimum, w[3])
    assert np.abs(w[:3]).max() < 1e-8


def test_interpolation_keeps_shared_wave_vectors(oracle) -> None:  # type: ignore[no-untyped-def]
    host = operator(oracle, (2, 2, 2)).host
    C2 = oracle.operator((2, 2, 2)).constants
    to4 = LatticeOperator(host, (4, 4, 4), interpolate(host, C2, (2, 2, 2), (4, 4, 4)))
    from2 = LatticeOperator(host, (2, 2, 2), C2)
    assert np.allclose(to4.symbol[::2, ::2, ::2], from2.symbol, atol=1e-10)
    assert np.abs(to4.constants.sum(axis=(0, 1, 2, 3))).max() < 1e-10  # the sum rule survives


def test_folding_a_large_cell_is_the_small_cell(morse) -> None:  # type: ignore[no-untyped-def]
    for lattice, a, species in (("fcc", 3.6, ["Cu"]), ("diamond", 5.2, ["Cu"]), ("b2", 3.0, ["Cu", "Ag"])):
        host = Host.named(lattice, species, a)
        big, small = constants(morse, host, (4, 4, 4)), constants(morse, host, (2, 2, 2))
        assert np.allclose(interpolate(host, big, (4, 4, 4), (2, 2, 2)), small, atol=1e-8)


def test_interpolation_up_and_down_is_the_identity(oracle) -> None:  # type: ignore[no-untyped-def]
    op = oracle.operator((3, 3, 3))
    there = interpolate(op.host, op.constants, (3, 3, 3), (6, 6, 6))
    assert np.allclose(interpolate(op.host, there, (6, 6, 6), (3, 3, 3)), op.constants, atol=1e-12)


def test_outer_shell_keeps_only_what_reaches_beyond_the_half_width(oracle) -> None:  # type: ignore[no-untyped-def]
    op = oracle.operator((2, 2, 2))
    shell = outer_shell(op.host, op.constants, (2, 2, 2)).reshape(-1, 3, op.host.nb, 3)
    d = op.host.atoms((2, 2, 2)).get_all_distances(mic=True)[:, : op.host.nb]
    inside = d <= half_width(op.host, (2, 2, 2)) + 1e-3
    kept = np.abs(shell).max(axis=(1, 3)) > 0
    assert not kept[inside].any()
    assert kept.any()
