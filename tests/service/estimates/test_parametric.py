"""The parametric column against brute force."""

from __future__ import annotations

import numpy as np
from harmonic import HOST

from farfield.service.cells import DefectCell
from farfield.service.estimates import LatticeOperator, Preconditioner
from farfield.service.estimates.parametric import energy_gradient, geometry_spread

RNG = np.random.default_rng(7)


def test_the_spread_is_the_trace_over_goals(oracle, vacancy) -> None:  # type: ignore[no-untyped-def]
    """sqrt(tr(J Sigma J^T)) with J = D G Phi_F column by column, for coefficients of covariance root root^T."""
    target = DefectCell(HOST, vacancy, (2, 2, 2))
    green = Preconditioner(target, LatticeOperator(HOST, target.size, oracle.operator(target.size).constants))
    phi = RNG.normal(size=(3 * target.natoms, 5))
    root = RNG.normal(size=(5, 5))
    columns = [green((phi @ column).reshape(-1, 3)) for column in root.T]
    i, j = target.bonds
    exact = sum(float(((x[j] - x[i]) ** 2).sum()) for x in columns)
    assert np.isclose(geometry_spread((phi @ root).T, target, green), np.sqrt(exact))
    draws = RNG.normal(size=(4000, 5)) @ root.T  # and the spread of what drawn coefficients do to the geometry
    sample = [target.norm(green((phi @ c).reshape(-1, 3))) ** 2 for c in draws]
    assert np.isclose(np.sqrt(np.mean(sample)), np.sqrt(exact), rtol=0.05)


def test_the_energy_gradient_is_that_of_the_formation_energy(vacancy) -> None:  # type: ignore[no-untyped-def]
    target = DefectCell(HOST, vacancy, (2, 2, 2))
    row, host = RNG.normal(size=6), RNG.normal(size=6)
    c = RNG.normal(size=6)
    formation = row @ c - target.natoms / HOST.nb * (host @ c)
    assert np.isclose(energy_gradient(row, host, target) @ c, formation)
