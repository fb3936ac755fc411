"""The host's free parameters, found with the oracle one after the other (decisions C3, theory.md section 1, A3).

A cubic host has one: its lattice constant, from seven points. Others are scanned in turn and then all once more, over a
shorter span, for the energy couples them: two sweeps of a quadratic whose axes are nearly its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from farfield.service.campaign.observed import Observed
from farfield.service.campaign.opening import equilibrium
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.state import State
from farfield.service.cells import Parameter, free_parameters
from farfield.service.proposals import lattice_cells
from farfield.service.proposals.opening import Candidate, parameter_cells

__all__ = ["found", "points", "scans"]

SWEEPS = 2


def scans(problem: Problem) -> list[tuple[Parameter, float]]:
    """The parameters in the order they are scanned, each with a factor on its span."""
    free = free_parameters(problem.config.host.make(problem.a))
    if len(free) == 1:
        return [(free[0], 1.0)]
    return [(p, 1.0 / 3**sweep) for sweep in range(SWEEPS) for p in free]


def points(problem: Problem, state: State, kinds: tuple[str, ...]) -> Iterator[Candidate]:
    """The cells of the scan that is due."""
    parameter, factor = scans(problem)[state.scan]
    if state.scan == 0:
        return lattice_cells(problem.host, kinds)
    return parameter_cells(problem.host, parameter, factor, state.scan, kinds)


def found(problem: Problem, state: State, observed: Observed, decision: int) -> bool:
    """Move `state` to where the energies of `decision` are least; whether every parameter is found."""
    plan = scans(problem)
    if state.scan == 0:
        a, bracketed = equilibrium(observed.energies)
        state.lattice_constant = float(np.round(a, 8))
    else:
        x, bracketed = equilibrium(observed.scans[decision])
        host = plan[state.scan][0].deform(problem.host, x)
        state.lattice_constant = float(np.round(host.a, 8))
        if host.shape != problem.config.host.make().shape:
            state.shape = [list(row) for row in host.shape]
        if host.sites is not None:
            state.sites = [list(row) for row in host.sites]
    state.scan += bracketed
    return state.scan == len(plan)
