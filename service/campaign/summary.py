"""The estimate of a round as numbers, from an assessment and the state it was made in."""

from __future__ import annotations

from typing import Any

import numpy as np

from farfield.service.campaign.assessment import Assessment
from farfield.service.campaign.chemistry import rich_limits
from farfield.service.campaign.observed import DefectLabel, Observed
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.state import State
from farfield.service.cells import is_complete
from farfield.service.estimates import Estimate
from farfield.service.estimates.noise import eta_noise, rattle_gain
from farfield.service.estimates.reach import HIDDEN, longest_edge, reach
from farfield.service.estimates.solution import Solution

__all__ = ["summarise"]

EDGE = 1e-6
"""Å."""
LINEAR = 0.1
"""Nearest-neighbour distances that an atom may be asked to move, G^h r, for the estimate to be believed: it is linear
in the residual. Beyond it eta / true was measured from 0.2 (another basin) to 10 (docs/effectivity.md)."""


def summarise(
    number: int,
    label: DefectLabel,
    a: Assessment,
    state: State,
    problem: Problem,
    solution: Solution,
    reference: float,
    observed: Observed,
) -> Estimate:
    """The estimate of decision `number` from the assessment `a` of `solution`, the state's surrogate, on `label`.

    `reference`: E of one host cell, eV; `observed` holds what the surrogate was trained on, and `label`.
    """
    s = state.solution
    target = problem.target
    raw = float(s["formation_energy_raw"])
    jump = None
    if state.old_u is not None and state.u is not None:
        jump = target.norm(state.u - state.old_u)
    noise, solved = None, a.geometry.converged
    if state.noise is not None:
        rng = np.random.default_rng([problem.config.campaign.seed, number, 2])
        gain = rattle_gain(problem.host.nb * int(np.prod(a.far.size)), a.far.step)
        sigma = state.noise.force * float(np.sqrt(1 + gain * a.rattle**2))
        noise, sound = eta_noise(sigma, problem.cell(label.size), target, solution.solve, rng)
        solved = solved and sound
    move = float(np.linalg.norm(a.geometry.solution, axis=1).max())
    gates: dict[str, Any] = {**s["gates"], "solver": solved, "linear range": bool(move < LINEAR * problem.host.nearest)}
    fresh, hidden = _hidden(label, state, problem, observed)
    shifts = rich_limits(problem.host, problem.defect, problem.potentials, reference)
    limits = {s: raw + a.energy.total + problem.constant - shift for s, shift in shifts.items()}
    return Estimate(
        decision=number,
        rung=label.size,
        complete=is_complete(problem.host, label.size),
        natoms=len(label.atoms),
        half_width=problem.cell(label.size).half_width,
        basis_size=int(s["basis_size"]),
        eta_geo=float(np.hypot(a.eta_geo, hidden)),
        assembled=a.geometry.assembled,
        core=a.geometry.core,
        fc=a.geometry.far,
        v=a.v,
        fold=a.fold,
        bound_v=a.bound_v,
        bound_fold=a.bound_fold,
        parametric_geo=s.get("parametric_geo"),
        eta_energy=a.energy.total,
        energy_core=a.energy.core,
        energy_tail=a.energy.tail,
        energy_relaxation=a.energy.relaxation,
        energy_bound_v=a.energy.bound_V,
        parametric_energy=s.get("parametric_energy"),
        formation_energy_raw=raw,
        formation_energy=raw + a.energy.total,
        formation_energy_dilute=raw + a.energy.total + a.dilute.image if a.dilute else None,
        relaxation_volume=a.dilute.relaxation_volume if a.dilute else None,
        eps_E=a.eps_E,
        eps_F=a.eps_F,
        eps_FC=a.far.eps_FC,
        eps_V=a.far.virial.eps_V,
        eps_C=a.far.virial.eps_C,
        eps_fold=a.far.eps_fold,
        gamma=float(s["gamma"]),
        tail_l2=a.tail_l2,
        tail_l4=a.tail_l4,
        jump=jump,
        soft=bool(s["soft"]),
        gates=gates,
        grade=s.get("grade"),
        noise=noise,
        limits=limits or None,
        eps_shift=float(np.abs(solution.surrogate.evaluate(problem.host.atoms())[1]).max()),
        hidden=hidden,
        fresh=fresh,
    )


def _hidden(label: DefectLabel, state: State, problem: Problem, observed: Observed) -> tuple[bool, float]:
    """Whether the rung's longest edge is new, and the error in Å that the rung cannot see."""
    host = problem.host
    before = [d.size for d in observed.defects if d.decision < label.decision]
    if longest_edge(host, [label.size]) > longest_edge(host, before) + EDGE:
        return True, 0.0
    known = [e for e in state.estimates if e.get("fresh", True) and list(e["rung"]) != list(label.size)]
    if not known or not observed.constants:
        return False, 0.0
    constants = observed.constants[-1]
    far = reach(host, constants.constants(host), constants.size)
    seen = problem.cell(label.size).half_width >= far
    return False, 0.0 if seen else HIDDEN * float(known[-1]["eta_geo"])
