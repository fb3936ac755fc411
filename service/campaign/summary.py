"""The estimate of a round as numbers, from an assessment and the state it was made in."""

from __future__ import annotations

from typing import Any

import numpy as np

from farfield.service.campaign.assessment import Assessment
from farfield.service.campaign.chemistry import rich_limits
from farfield.service.campaign.observed import DefectLabel
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.state import State
from farfield.service.cells import ForceConstantCell, is_complete
from farfield.service.estimates import Estimate
from farfield.service.estimates.noise import eta_noise, rattle_gain
from farfield.service.estimates.solution import Solution

__all__ = ["summarise"]

WIDE = 1.2
"""Half width of a complete rung in cut-offs, from which it counts as complete. A narrower one does not see how the
oracle's defect pulls at atoms beyond it: on 3x3x3 of Cu (1.01 cut-offs) eta / true is 0.1 to 0.9, on 4x4x4 (1.35) 0.65
to 1.1, where both are below 3 mÅ (docs/effectivity.md)."""


def summarise(
    number: int,
    label: DefectLabel,
    a: Assessment,
    state: State,
    problem: Problem,
    solution: Solution,
    reference: float,
) -> Estimate:
    """The estimate of decision `number` from the assessment `a` of `solution`, the state's surrogate, on `label`.

    `reference`: E of one host cell, eV.
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
        gain = rattle_gain(ForceConstantCell(problem.host, a.far.size).natoms, a.far.step)
        sigma = state.noise.force * float(np.sqrt(1 + gain * a.rattle**2))
        noise, sound = eta_noise(sigma, problem.cell(label.size), target, solution.solve, rng)
        solved = solved and sound
    gates: dict[str, Any] = {**s["gates"], "solver": solved}
    wide = problem.cell(label.size).half_width >= WIDE * solution.surrogate.basis.cutoff
    shifts = rich_limits(problem.host, problem.defect, problem.potentials, reference)
    limits = {s: raw + a.energy.total + problem.constant - shift for s, shift in shifts.items()}
    return Estimate(
        decision=number,
        rung=label.size,
        complete=is_complete(problem.host, label.size) and wide,
        natoms=len(label.atoms),
        half_width=problem.cell(label.size).half_width,
        basis_size=int(s["basis_size"]),
        eta_geo=a.eta_geo,
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
    )
