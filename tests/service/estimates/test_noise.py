"""Noise in the estimates: the expectation of ||D G f||, the best finite difference, what a rattle makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from harmonic import HOST

from farfield.service.cells import Defect, DefectCell, ForceConstantCell
from farfield.service.estimates import LatticeOperator
from farfield.service.estimates.noise import (
    eta_noise,
    force_constant_step,
    quiet_rattle,
    rattle_gain,
    third_derivative,
)
from farfield.service.surrogate import Basis, Surrogate


def test_the_mean_square_is_the_trace(oracle) -> None:  # type: ignore[no-untyped-def]
    defect = Defect.named(HOST, "vacancy")
    cell, target = DefectCell(HOST, defect, (2, 2, 2)), DefectCell(HOST, defect, (3, 3, 3))
    dense = np.zeros((3 * target.natoms, 3 * target.natoms))
    for k in range(3 * target.natoms):
        e = np.zeros(3 * target.natoms)
        e[k] = 1.0
        dense[:, k] = -oracle.forces(target, e.reshape(-1, 3)).ravel()
    inverse = np.linalg.pinv(dense, rcond=1e-8)

    def solver(r):  # type: ignore[no-untyped-def]
        return (inverse @ r.ravel()).reshape(-1, 3), True

    exact = 0.0
    for atom in cell.map_to(target):
        for axis in range(3):
            f = np.zeros((target.natoms, 3))
            f[atom, axis] = 1.0
            exact += target.norm(solver(f - f.mean(axis=0))[0]) ** 2
    rng = np.random.default_rng(1)
    found = [eta_noise(0.01, cell, target, solver, rng) for _ in range(50)]
    assert all(sound for _, sound in found)
    assert np.sqrt(np.mean([x**2 for x, _ in found])) == pytest.approx(0.01 * np.sqrt(exact), rel=0.01)
    assert np.std([x for x, _ in found]) < 0.1 * 0.01 * np.sqrt(exact)  # the draws of one estimate are enough


def test_a_solve_that_fails_is_told_and_no_noise_needs_none(vacancy) -> None:  # type: ignore[no-untyped-def]
    cell = DefectCell(HOST, vacancy, (2, 2, 2))
    calls = []

    def solver(r):  # type: ignore[no-untyped-def]
        calls.append(1)
        return r, len(calls) != 2

    rng = np.random.default_rng(0)
    assert eta_noise(0.0, cell, cell, solver, rng) == (0.0, True)
    assert not calls
    assert not eta_noise(0.1, cell, cell, solver, rng)[1]
    once = eta_noise(0.1, cell, cell, solver, np.random.default_rng(3))[0]
    assert eta_noise(0.2, cell, cell, solver, np.random.default_rng(3))[0] == pytest.approx(2 * once)


@pytest.mark.parametrize(("sigma", "third"), [(1e-4, 30.0), (3e-4, 25.0), (1e-3, 80.0)])
def test_the_step_makes_truncation_and_noise_least(sigma: float, third: float) -> None:
    h = np.arange(0.01, 0.05, 1e-4)
    error = sigma / (np.sqrt(2) * h) + h**2 * third / 6
    assert force_constant_step(sigma, third) == pytest.approx(h[error.argmin()], abs=2e-4)


def test_the_step_stays_in_its_bounds() -> None:
    assert force_constant_step(0.0, 30.0) == 0.01
    assert force_constant_step(0.0, 0.0) == 0.01
    assert force_constant_step(1e-9, 30.0) == 0.01
    assert force_constant_step(0.1, 30.0) == 0.05
    assert force_constant_step(0.1, 0.0) == 0.05


def test_the_third_derivative_is_that_of_the_displaced_atoms_force() -> None:
    basis = Basis.default(("Cu",), HOST.nearest, 0)
    surrogate = Surrogate(basis, np.random.default_rng(2).normal(size=basis.size))
    cell = ForceConstantCell(HOST, (2, 2, 2))
    (d,) = cell.displacements
    h = np.linspace(-0.06, 0.06, 9)
    forces = np.array([surrogate.evaluate(cell.displaced(d, x))[1] @ np.array(d.direction) for x in h])
    fit = np.polynomial.polynomial.polyfit(h, forces, 7)
    assert third_derivative(surrogate, cell) == pytest.approx(6 * np.abs(fit[3]).max(), rel=0.02)


def test_force_constants_of_noise_times_a_rattle_scatter_as_the_gain_says() -> None:
    cell, step, sigma, size = ForceConstantCell(HOST, (3, 3, 3)), 0.02, 0.003, 0.01
    rng = np.random.default_rng(7)
    squares = []
    for _ in range(20):
        noise = [[sigma * rng.normal(size=(cell.natoms, 3)) for _ in cell.signs(d)] for d in cell.displacements]
        constants = cell.assemble([cell.column(d, step, f) for d, f in zip(cell.displacements, noise, strict=True)])
        xi = size * rng.normal(size=(cell.natoms, 3))
        squares.append((LatticeOperator(HOST, cell.size, constants).apply(xi) ** 2).mean())
    expected = sigma * size * np.sqrt(rattle_gain(cell.natoms, step))
    assert np.sqrt(np.mean(squares)) == pytest.approx(expected, rel=0.25)  # 1.18: the sum rule adds a little


def test_a_quiet_rattle_doubles_the_variance_or_is_harmless() -> None:
    gain = rattle_gain(108, 0.02)
    assert gain * quiet_rattle(0.1, gain, 0.001) ** 2 == pytest.approx(1.0)
    loud = quiet_rattle(1e-4, gain, 0.005)
    assert 1e-4 * np.sqrt(1 + gain * loud**2) == pytest.approx(0.005)
    assert quiet_rattle(0.0, gain, 0.005) == np.inf
