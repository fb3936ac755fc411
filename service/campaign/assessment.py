"""One assessment: a surrogate's solution against a measured defect cell gives every term of T2 and T3."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.service.campaign.observed import DefectLabel, ForceConstantLabel, Observed
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.training import reference_energy
from farfield.service.cells import Size, strained
from farfield.service.estimates import (
    Dilute,
    EnergyError,
    LatticeOperator,
    core_residual,
    dilute_limit,
    dual_norm,
    energy_error,
    eta_v,
    geometry_error,
    interpolate,
    outer_shell,
    virial_mismatch,
)
from farfield.service.estimates.anharmonic import StressMismatch, quadratic_force, stress_mismatch
from farfield.service.estimates.dilute import virial_pairs
from farfield.service.estimates.lattice import dual_force_norm
from farfield.service.estimates.residual import GeometryError, residual
from farfield.service.estimates.solution import Solution
from farfield.service.estimates.virial import VirialMismatch

__all__ = ["Assessment", "FarField", "assess", "far_field"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FarField:
    """The perfect-lattice mismatches of one surrogate: M on `size` with `step` Å (C4), its folding error, and the
    virials (C3).

    `target_operator` is M on the target's grid, `fold_operator` its folding error there; `stress` the Cauchy-Born
    mismatch, None without strained cells.
    """

    size: Size
    step: float
    mismatch: Array
    virial: VirialMismatch
    stress: StressMismatch | None
    target_operator: LatticeOperator
    fold_operator: LatticeOperator

    @property
    def eps_FC(self) -> float:  # noqa: N802
        """||M||_{(D, D*)}, eV/Å^2."""
        return dual_norm(self.target_operator)

    @property
    def eps_fold(self) -> float:
        """(D, D*) norm of the folding error, eV/Å^2."""
        return dual_norm(self.fold_operator)

    def forces(self, solution: Solution, beyond: float) -> tuple[Array, Array]:
        """Forces (N, 3) of the V tail and of the folding error on the target's sites farther than `beyond` Å."""
        target = solution.target
        outside = target.outside(beyond)
        fold = -target.from_sites(self.fold_operator.apply(target.on_sites(solution.u)))
        fold[~outside] = 0.0
        if self.stress is None:
            return np.zeros_like(fold), fold
        return quadratic_force(self.stress, target, solution.u, outside), fold


def far_field(solution: Solution, observed: Observed, problem: Problem) -> FarField:
    """Needs at least one FC label; without virials eps_V and eps_C are zero."""
    host, target = problem.host, problem.target
    label = observed.constants[-1]
    M = _mismatch(solution, label, problem)
    operator = LatticeOperator(host, target.size, interpolate(host, M, label.size, target.size))
    smaller = [c for c in observed.constants[:-1] if c.size != label.size]
    if smaller:
        other = interpolate(host, _mismatch(solution, smaller[-1], problem), smaller[-1].size, target.size)
        fold = operator.constants - other
    else:
        fold = interpolate(host, outer_shell(host, M, label.size), label.size, target.size)
    virial, stress = _virials(solution, observed, problem)
    return FarField(label.size, label.step, M, virial, stress, operator, LatticeOperator(host, target.size, fold))


def _mismatch(solution: Solution, label: ForceConstantLabel, problem: Problem) -> Array:
    return solution.mismatch_constants(label.constants(problem.host), label.cells(problem.host), label.step)


def _virials(solution: Solution, observed: Observed, problem: Problem) -> tuple[VirialMismatch, StressMismatch | None]:
    pairs = observed.strain_pairs()
    if not pairs:
        return VirialMismatch(0.0, 0.0, 0.0), None
    evaluate = solution.surrogate.evaluate
    zero = observed.references[(1, 1, 1)][1] if (1, 1, 1) in observed.references else None
    origin = (zero if zero is not None else np.zeros(6)) - evaluate(problem.host.atoms())[2]
    mismatches = [(p.strain, p.virial - evaluate(p.atoms)[2], m.virial - evaluate(m.atoms)[2]) for p, m in pairs]
    cells = [(s * e, d) for e, plus, minus in mismatches for s, d in ((1, plus), (-1, minus))]
    n = problem.host.nb
    return virial_mismatch(origin, mismatches, n), stress_mismatch(problem.host, origin, cells, n)


@dataclass(frozen=True)
class Assessment:
    """Terms of T2 in Å and of T3 in eV, and what they were made from; `rattle` rms of a component of xi, Å."""

    geometry: GeometryError
    v: float
    fold: float
    bound_v: float
    bound_fold: float
    energy: EnergyError
    eps_E: float
    eps_F: float
    far: FarField
    tail_l2: float
    tail_l4: float
    rattle: float
    dilute: Dilute | None

    @property
    def eta_geo(self) -> float:
        """||D G^h (r_core + r_far)|| + eta_V + folding, Å (decisions C6).

        eta_V and the folding term are assembled too, as ||D G^h r|| of their own far-field forces: their norm forms
        (`bound_v`, `bound_fold`) take the softest wave everywhere (docs/far_field_terms.md).
        """
        return self.geometry.assembled + self.v + self.fold


def assess(
    solution: Solution,
    label: DefectLabel,
    observed: Observed,
    problem: Problem,
    reference: float,
    far: FarField | None = None,
    *,
    with_dilute: bool = False,
) -> Assessment:
    """Measure `solution` on the defect cell `label`; `reference` is E of one host cell, eV.

    `far` may be given where it is known already. The cell's displacement is split in the restriction of u^h and the
    rest xi (the rattle), whose bias is removed with the perfect-lattice mismatch (C5).
    """
    host, target = problem.host, problem.target
    cell = problem.cell(label.size)
    far = far or far_field(solution, observed, problem)
    operator = LatticeOperator(host, cell.size, interpolate(host, far.mismatch, far.size, cell.size))
    y0 = cell.restrict(target, solution.u)
    xi = label.atoms.positions - cell.x0 - y0
    energy, forces, _ = solution.surrogate.evaluate(label.atoms)
    df = label.forces - forces
    core = core_residual(df, xi, cell, operator)
    r = residual(core, cell, y0, target, solution.u, far.target_operator, operator)
    geometry = geometry_error(r, target, solution.solve)
    gamma = max(solution.operator.gamma, 1e-6)
    L = cell.half_width
    v, fold = (target.norm(solution.solve(r)[0]) if np.abs(r).max() > 0 else 0.0 for r in far.forces(solution, L))
    tail_l2, tail_l4 = target.norm(solution.u, L), target.norm(solution.u, L, 4)
    eta_E = energy_error(
        mismatch_energy=label.energy - energy,
        mismatch_reference=reference_energy(observed, label.size, reference) - solution.reference,
        mismatch_forces=df,
        xi=xi,
        cell=cell,
        cell_operator=operator,
        cell_u=y0,
        target=target,
        target_operator=far.target_operator,
        target_u=solution.u,
        work=geometry.work,
        virial_total=far.virial.total,
    )
    dilute = None
    host_virial = observed.references.get((1, 1, 1), (0.0, None))[1]
    if with_dilute and label.virial is not None and host_virial is not None and observed.strain_pairs():
        evaluate = solution.surrogate.evaluate
        strains = [p.strain for p, _ in observed.strain_pairs()]
        pairs = virial_pairs(lambda e: evaluate(strained(problem.host.atoms(), e))[2], strains)
        dilute = dilute_limit(label.virial, host_virial, cell, target, solution.constants, pairs)
    return Assessment(
        geometry,
        v,
        fold,
        eta_v(far.virial.total, tail_l4, gamma, host.s2),
        far.eps_fold * tail_l2 / gamma,
        eta_E,
        abs(eta_E.core),
        dual_force_norm(host, cell.size, cell.on_sites(core - core.mean(axis=0))),
        far,
        tail_l2,
        tail_l4,
        float(np.sqrt((xi**2).mean())),
        dilute,
    )
