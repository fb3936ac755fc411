"""T2 on harmonic crystals, where H - H^h is known and every step is exact (decisions C5)."""

from __future__ import annotations

import numpy as np
from harmonic import mismatch

from farfield.service.cells import Defect, DefectCell
from farfield.service.estimates.residual import core_residual, geometry_error, residual

RNG = np.random.default_rng(4)


def test_the_rattle_leaves_no_bias(oracle, model, vacancy) -> None:  # type: ignore[no-untyped-def]
    cell = DefectCell(oracle.operator((3, 3, 3)).host, vacancy, (3, 3, 3))
    y0 = 0.1 * RNG.normal(size=(cell.natoms, 3))
    M = mismatch(oracle, model, cell.size)

    def force(u):  # type: ignore[no-untyped-def]
        return oracle.forces(cell, u) - model.forces(cell, u)

    for size in (0.0, 0.02, 0.5):
        xi = size * RNG.normal(size=y0.shape)
        assert np.abs(core_residual(force(y0 + xi), xi, cell, M) - force(y0)).max() < 1e-10


def test_a_harmonic_mismatch_is_found_exactly(oracle, model, vacancy) -> None:  # type: ignore[no-untyped-def]
    """Outside as -M u, and inside although the cell's images move with it."""
    host = oracle.operator((2, 2, 2)).host
    target = DefectCell(host, vacancy, (5, 5, 5))
    u = 0.1 * RNG.normal(size=(target.natoms, 3))
    exact = oracle.forces(target, u) - model.forces(target, u)
    for size in ((3, 3, 3), (3, 4, 4)):
        cell = DefectCell(host, vacancy, size)
        y0 = cell.restrict(target, u)
        core = oracle.forces(cell, y0) - model.forces(cell, y0)
        aliased = np.zeros_like(exact)
        aliased[cell.map_to(target)] = core
        r = residual(core, cell, y0, target, u, mismatch(oracle, model, (5, 5, 5)), mismatch(oracle, model, size))
        assert np.abs(r.core + r.far - exact).max() < 1e-12
        inside = np.zeros(target.natoms, bool)
        inside[cell.map_to(target)] = True
        assert not r.far[inside].any()
        assert not r.core[~inside].any()
        assert np.abs(aliased[inside] - exact[inside]).max() > 1e-3  # what the images did


def test_eta_is_the_error_when_the_whole_residual_is_measured(oracle, model) -> None:  # type: ignore[no-untyped-def]
    """With r exact and G the oracle's own inverse, u^h + G r is the oracle's solution."""
    host = oracle.operator((2, 2, 2)).host
    target = DefectCell(host, Defect(changed=((0, "Cu"),)), (3, 3, 3))  # a perfect lattice under a load
    dense = np.zeros((3 * target.natoms, 3 * target.natoms))
    for k in range(3 * target.natoms):
        e = np.zeros(3 * target.natoms)
        e[k] = 1.0
        dense[:, k] = -oracle.forces(target, e.reshape(-1, 3)).ravel()
    load = RNG.normal(size=(target.natoms, 3))  # the defect's own force, the same for both
    load -= load.mean(axis=0)

    def solver(r):  # type: ignore[no-untyped-def]
        return np.linalg.lstsq(dense, r.ravel(), rcond=1e-10)[0].reshape(-1, 3), True

    truth, _ = solver(load)
    uh = truth + 0.05 * RNG.normal(size=truth.shape)
    M = mismatch(oracle, model, target.size)
    r = residual(load + oracle.forces(target, uh), target, uh, target, uh, M, M)
    error = geometry_error(r, target, solver)
    assert np.isclose(error.assembled, target.norm(truth - uh), rtol=1e-8)
    assert np.isclose(error.work, ((truth - uh).ravel() @ dense @ (truth - uh).ravel()), rtol=1e-8)
    assert error.far == 0.0
