"""T3 on harmonic crystals: exact, whatever the rattle and the cell (decisions C2, C5)."""

from __future__ import annotations

import numpy as np
import pytest
from harmonic import mismatch

from farfield.service.cells import DefectCell
from farfield.service.estimates import energy_error

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("size", [(3, 3, 3), (3, 3, 4), (5, 5, 5)])
@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.3])
def test_harmonic_mismatch_is_found_exactly(oracle, model, vacancy, size, sigma) -> None:  # type: ignore[no-untyped-def]
    host = oracle.operator((2, 2, 2)).host
    cell, target = DefectCell(host, vacancy, size), DefectCell(host, vacancy, (5, 5, 5))
    u = 0.1 * RNG.normal(size=(target.natoms, 3))
    y0 = cell.restrict(target, u)
    xi = sigma * RNG.normal(size=y0.shape)
    offset = 0.37  # of one host cell, between oracle and surrogate
    dE = oracle.energy(cell, y0 + xi) - model.energy(cell, y0 + xi) + cell.references * offset
    e = energy_error(
        mismatch_energy=dE,
        mismatch_reference=offset,
        mismatch_forces=oracle.forces(cell, y0 + xi) - model.forces(cell, y0 + xi),
        xi=xi,
        cell=cell,
        cell_operator=mismatch(oracle, model, size),
        cell_u=y0,
        target=target,
        target_operator=mismatch(oracle, model, target.size),
        target_u=u,
        work=0.2,
        virial_total=0.1,
    )
    assert np.isclose(e.core + e.tail, oracle.energy(target, u) - model.energy(target, u), atol=1e-10)
    assert e.relaxation == -0.1
    assert e.total == e.core + e.tail + e.relaxation


def test_bound_of_the_cubic_tail(oracle, model, vacancy) -> None:  # type: ignore[no-untyped-def]
    host = oracle.operator((2, 2, 2)).host
    cell, target = DefectCell(host, vacancy, (2, 2, 2)), DefectCell(host, vacancy, (4, 4, 4))
    u = 0.1 * RNG.normal(size=(target.natoms, 3))
    y0 = cell.restrict(target, u)
    M = mismatch(oracle, model, (4, 4, 4))
    zero = np.zeros_like(y0)
    e = energy_error(
        mismatch_energy=0.0, mismatch_reference=0.0, mismatch_forces=zero, xi=zero, cell=cell,
        cell_operator=mismatch(oracle, model, (2, 2, 2)), cell_u=y0, target=target, target_operator=M, target_u=u,
        work=0.0, virial_total=0.3,
    )  # fmt: skip
    d = target.strain(u)[target.radius > cell.half_width]
    assert np.isclose(e.bound_V, 0.3 * (d**3).sum() / (3 * host.s2**1.5))
