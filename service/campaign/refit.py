"""The refit of a round: loss weights, fit, relaxation in the target cell, gates, and the parametric column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import CampaignError
from farfield.service.campaign.assessment import FarField, far_field
from farfield.service.campaign.observed import Observed
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.state import State
from farfield.service.campaign.training import TrainingSet
from farfield.service.cells import half_width
from farfield.service.estimates.parametric import energy_gradient, geometry_spread
from farfield.service.estimates.relaxation import Relaxation
from farfield.service.estimates.solution import SOFT, Solution, lattice_constants, relaxed
from farfield.service.proposals import loss_weights
from farfield.service.surrogate import Basis, Posterior, Surrogate, design, neighbours, site_grades

__all__ = ["Refit", "refit", "restored", "smallest_sampled"]

Array = NDArray[np.float64]

STARTS, START_NOISE = 4, 0.05
"""Relaxations of a first surrogate and their noise in Å (decisions C11)."""
LATER_STARTS = 2
"""Fresh starts beside the last u^h in later rounds, so that a false basin of a poor surrogate is left again."""
FAR_SHARE = 1 / 3
"""FC or V rows go into the fit when their tail alone takes this share of the geometry tolerance."""
MOVED = 10.0
"""Times the estimated error that a solution may move from one surrogate to the next within one basin. Measured: up to 8
where eta is far too small (Cu on 3x3x3), 500 and more where the basin changes (Si vacancy, Tersoff)."""
CLOSEST = 0.9
"""Pairs at u^h nearer than this share of the nearest sampled pair lie outside the sampled range."""


@dataclass(frozen=True)
class Refit:
    """The new surrogate's solution, the weights used, and the JSON scalars stored with it (`summary`)."""

    solution: Solution
    posterior: Posterior
    weights: dict[str, float]
    far: FarField | None
    summary: dict[str, Any]

    @property
    def gates(self) -> dict[str, bool]:
        """Gate name -> passed."""
        return dict(self.summary["gates"])


def refit(
    state: State, observed: Observed, problem: Problem, training: TrainingSet, reference: float, seed: int
) -> Refit:
    """Fit with the state's flags and relax; turns on FC or V rows (in `state`) where the far field needs them.

    FC and V rows are put into the fit when their tail alone, which costs no oracle call to compute, takes a third of
    the tolerance, or when the surrogate's lattice is unstable without them.
    """
    training.update(observed, reference)
    attempt = _once(state, observed, problem, training, reference, seed)
    if observed.constants and not state.fit_fc and _needs_fc(attempt, state, problem):
        state.fit_fc = True
        attempt = _once(state, observed, problem, training, reference, seed)
    if observed.strains and not state.fit_v and _needs_v(attempt, state, problem):
        state.fit_v = True
        attempt = _once(state, observed, problem, training, reference, seed)
    return attempt


def _once(
    state: State, observed: Observed, problem: Problem, training: TrainingSet, reference: float, seed: int
) -> Refit:
    weights = _weights(state, observed, problem, training)
    posterior, surrogate = training.fit(weights, reference)
    target = problem.target
    rng = np.random.default_rng([seed, 1])
    closest = CLOSEST * smallest_sampled(surrogate.basis, observed)
    fresh = [target.start(START_NOISE, rng) for _ in range(STARTS)]
    solution = relaxed(
        surrogate, target, fresh if state.u is None else [state.u, *fresh[:LATER_STARTS]], closest=closest
    )
    sane = bool(np.isfinite(solution.relaxation.energy))
    far = far_field(solution, observed, problem) if observed.constants and sane else None
    gates = _gates(solution, state, observed, problem, rng)
    summary: dict[str, Any] = {
        "gates": gates,
        "basis_size": training.basis.size,
        "basis_level": state.level,
        "gamma": solution.operator.gamma,
        "soft": solution.operator.gamma < SOFT,
        "strength": posterior.strength,
        "noise": posterior.noise,
        "residual_rms": posterior.residual_rms,
        "weights": weights,
        "others": solution.others,
        "relaxation_steps": solution.relaxation.steps,
        "formation_energy_raw": solution.formation_energy - problem.constant if sane else None,
    }
    if sane and all(gates.values()):
        row = design(surrogate.basis, target.atoms(solution.u))
        g = energy_gradient(row.energy, training.host_row, target)
        summary["parametric_energy"] = float(np.sqrt(posterior.quadratic(g)))
        whitened = posterior.whiten(row.forces)
        summary["parametric_geo"] = geometry_spread(whitened, target, solution.green)
        summary["grade"] = float(site_grades(whitened, (weights.get("F") or 1.0) / posterior.noise).max())
    return Refit(solution, posterior, weights, far, summary)


def _weights(state: State, observed: Observed, problem: Problem, training: TrainingSet) -> dict[str, float]:
    target, host = problem.target, problem.host
    l2 = l4 = None
    if state.u is not None and state.rung is not None:
        L = half_width(host, state.rung)
        l2, l4 = target.norm(state.u, L), target.norm(state.u, L, 4)
    strains = [float((s.strain**2).sum()) for s in observed.strains]
    return loss_weights(
        tail_l2=l2,
        tail_l4=l4,
        s2=host.s2,
        a=host.a,
        n_conf=training.n_defects,
        n_strain=training.n_strains,
        strain2=float(np.mean(strains)) if strains else 1.0,
        with_fc=state.fit_fc,
        with_v=state.fit_v,
        fc_boost=state.fc_boost,
    )


def _needs_fc(attempt: Refit, state: State, problem: Problem) -> bool:
    gates = attempt.gates
    if not (gates["relaxed"] and gates["stable lattice"] and gates["no negative curvature"]) or attempt.far is None:
        return True
    s = attempt.solution
    L = half_width(problem.host, state.rung) if state.rung else 0.0
    outside = problem.target.outside(L)
    force = -problem.target.from_sites(attempt.far.target_operator.apply(problem.target.on_sites(s.u)))
    force[~outside] = 0.0
    return problem.target.norm(s.green(force)) > FAR_SHARE * problem.config.target.tol_geo


def _needs_v(attempt: Refit, state: State, problem: Problem) -> bool:
    if attempt.far is None or not attempt.gates["stable lattice"]:
        return False
    L = half_width(problem.host, state.rung) if state.rung else 0.0
    force, _ = attempt.far.forces(attempt.solution, L)
    return problem.target.norm(attempt.solution.green(force)) > FAR_SHARE * problem.config.target.tol_geo


def _gates(
    solution: Solution, state: State, observed: Observed, problem: Problem, rng: np.random.Generator
) -> dict[str, bool]:
    gates = {"relaxed": solution.relaxation.converged, "stable lattice": solution.operator.minimum > 0}
    ok = all(gates.values())
    gates["no negative curvature"] = ok and solution.curvature(rng) > 0
    gates["same basin"] = ok and _same_basin(solution, state, problem)
    gates["sampled range"] = ok and solution.nearest_pair() > CLOSEST * smallest_sampled(
        solution.surrogate.basis, observed
    )
    return gates


def _same_basin(solution: Solution, state: State, problem: Problem) -> bool:
    """Whether u^h is where the last estimate left it.

    No atom has gone half way to a neighbour's site, and the change is no more than `MOVED` times the error that was
    estimated.
    """
    if state.u is None:
        return True
    move = solution.u - state.u
    if float(np.sqrt((move**2).sum(axis=1)).max()) >= 0.5 * problem.host.nearest:
        return False
    if not state.estimates:
        return True
    expected = max(float(state.estimates[-1]["eta_geo"]), problem.config.target.tol_geo)
    return problem.target.norm(move) <= MOVED * expected


def smallest_sampled(basis: Basis, observed: Observed) -> float:
    """Smallest interatomic distance in the defect cells labelled so far, Å."""
    return min(float(np.sqrt((neighbours(basis, d.atoms).vectors ** 2).sum(axis=1).min())) for d in observed.defects)


def restored(state: State, problem: Problem) -> Solution | None:
    """The solution that a stored state describes, without fitting or relaxing again; None before the first fit.

    Raises CampaignError for coefficients of another basis, as another version of the code may have stored them.
    """
    if state.coefficients is None or state.u is None:
        return None
    basis = problem.basis(state.level)
    if state.basis != basis.to_json():
        raise CampaignError(
            "the stored surrogate has another basis than this version makes; resume with the version that began the "
            "campaign, or start one of another name: it finds the calculations in the database"
        )
    surrogate = Surrogate(basis, state.coefficients)
    target = problem.target
    energy = surrogate.evaluate(target.atoms(state.u))[0]
    run = Relaxation(state.u, energy, 0.0, 0, bool(state.solution["gates"]["relaxed"]))
    reference = surrogate.evaluate(problem.host.atoms())[0]
    return Solution(surrogate, target, run, reference, lattice_constants(surrogate, target))
