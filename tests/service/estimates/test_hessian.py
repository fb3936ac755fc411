from __future__ import annotations

import numpy as np

from farfield.service.estimates import lowest_curvature, solve

RNG = np.random.default_rng(7)
N = 20


def spectrum(*lowest: float) -> np.ndarray:
    """A symmetric matrix (3N, 3N) without stiffness against translation, with chosen lowest eigenvalues."""
    q, _ = np.linalg.qr(np.hstack([np.tile(np.eye(3), (N, 1)), RNG.normal(size=(3 * N, 3 * N - 3))]))
    w = np.concatenate([np.zeros(3), lowest, np.linspace(1.0, 3.0, 3 * N - 3 - len(lowest))])
    return (q * w) @ q.T


def free(r: np.ndarray) -> np.ndarray:
    return r - r.mean(axis=0)


def test_solve_is_the_dense_solution() -> None:
    H = spectrum(0.2, 0.4)
    r = RNG.normal(size=(N, 3))
    answer = solve(lambda v: (H @ v.ravel()).reshape(N, 3), r, free, tolerance=1e-10, limit=200)
    assert answer.converged
    assert np.allclose(answer.x.ravel(), np.linalg.pinv(H) @ free(r).ravel(), atol=1e-8)


def test_solve_of_nothing_is_nothing() -> None:
    answer = solve(lambda v: v, np.zeros((N, 3)), free)
    assert answer.converged
    assert not answer.x.any()


def test_solve_stops_on_negative_curvature() -> None:
    H = spectrum(-0.5)
    assert not solve(lambda v: (H @ v.ravel()).reshape(N, 3), RNG.normal(size=(N, 3)), free, limit=200).converged


def test_lanczos_finds_the_lowest_mode_that_the_residual_cannot_see() -> None:
    for low in (-0.3, 0.3):
        H = spectrum(low)

        def product(v: np.ndarray, H: np.ndarray = H) -> np.ndarray:
            return (H @ v.ravel()).reshape(N, 3)

        assert np.isclose(lowest_curvature(product, free, (N, 3), RNG, steps=40), low, atol=1e-3)


def test_lanczos_is_relative_to_the_preconditioner() -> None:
    H = spectrum(0.5)

    def product(v: np.ndarray) -> np.ndarray:
        return (H @ v.ravel()).reshape(N, 3)

    G = np.linalg.pinv(H)
    found = lowest_curvature(product, lambda g: (G @ g.ravel()).reshape(N, 3), (N, 3), RNG)
    assert np.isclose(found, 1.0, atol=1e-6)  # as stiff as what preconditions it
