"""From the state to a decision: the proposals of each phase, numbered, with the state's bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.oracles.mesh import KEY
from farfield.service.campaign import lattice
from farfield.service.campaign.continuous import OPEN, TAKEN_BACK
from farfield.service.campaign.decision import Decision, OracleInfo, Proposal
from farfield.service.campaign.noise import BASE
from farfield.service.campaign.observed import Observed
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.sections import PhaseSection
from farfield.service.campaign.speculation import ahead
from farfield.service.campaign.state import State
from farfield.service.cells import DefectCell, ForceConstantCell, Size
from farfield.service.cells.folding import folded_cell
from farfield.service.estimates.noise import (
    eta_noise,
    force_constant_step,
    quiet_rattle,
    rattle_gain,
    third_derivative,
)
from farfield.service.estimates.solution import Solution
from farfield.service.proposals import (
    cost_model,
    oracle_check_cells,
    rattle,
    start_cells,
    verification_cell,
)
from farfield.service.proposals.choice import Action, name
from farfield.service.proposals.cost import FittedCost
from farfield.service.proposals.opening import (
    Candidate,
    force_constant_cells,
    isolated_atoms,
    noise_cells,
    phase_cells,
    strain_cells,
)
from farfield.service.proposals.verification import rounded
from farfield.service.surrogate import Posterior

__all__ = ["Proposing"]

ANALYTIC_STEP, NOISY_STEP = 0.01, 0.02
"""FC displacement in Å without noise, and with noise before there is a surrogate (decisions C10)."""
ANALYTIC_RATTLES, SILENT_RATTLES, NOISY_RATTLES = (0.02,), (0.01, 0.03), (0.02, 0.05)
"""Å, of the first cells: of an analytic oracle, of one that was measured to have no noise, and of the others. Small
ones: measured without noise on nine defects, (0.01, 0.03) leaves 1.5 to 30 times less true error after the same rungs
than (0, 0.05), most for the soft Si vacancy (Tersoff). One alone reaches the same errors at the same or half the cost,
beside force constants on a wide grid (docs/cost_now.md); two tell on each other where one of them is wrong (A10)."""
START_STRAIN = 0.02
HARMLESS = 0.1
"""Share of the geometry tolerance that noise may take without a thought."""


class Proposing:
    """Builds the decision that follows from the state; `solution` is the round's, None before the first."""

    def __init__(
        self,
        problem: Problem,
        oracle: OracleInfo,
        observed: Observed,
        state: State,
        number: int,
        solution: Solution | None = None,
        posterior: Callable[[], tuple[Posterior, NDArray[np.float64]]] | None = None,
    ) -> None:
        self.problem, self.oracle, self.observed, self.state, self.number = problem, oracle, observed, state, number
        self.kinds = tuple(k for k in ("E", "F", "V") if k in oracle.supports)
        self.rng = np.random.default_rng([problem.config.campaign.seed, number])
        self.solution, self.posterior = solution, posterior

    def decision(self, action: Action | None) -> Decision:
        """The decision of the current phase; `action` steers the rounds."""
        if self.state.phase == "lattice":
            return self._finish(*self._lattice())
        if self.state.phase == "start":
            return self._finish(*self._start())
        if action is None:
            raise RuntimeError("a round needs an action; tell the loop its answers first")
        return self._finish(*self._round(action))

    def inquiry(self, reason: str, candidates: Iterable[Candidate]) -> Decision:
        """The decision that buys `candidates` alone, to confirm labels in doubt; the round waits for it."""
        return self._finish(reason, candidates)

    def _lattice(self) -> tuple[str, list[Candidate]]:
        host, kinds = self.problem.host, self.kinds
        out: list[Candidate] = []
        reasons = []
        if self.problem.config.host.lattice_constant == "oracle":
            out += lattice.points(self.problem, self.state, tuple(k for k in kinds if k != "F"))
            if self.state.scan == 0:
                reasons.append(f"lattice constant unknown: equation of state about {host.a:.3f} Å")
            else:
                plan = lattice.scans(self.problem)
                what = {"size": "its size", "shape": "the shape of its cell", "sites": "shifts of its sites"}
                text = what[plan[self.state.scan][0].name]
                reasons.append(f"free parameters of the host: {text} ({self.state.scan + 1} of {len(plan)})")
        if not self.observed.checks:
            traceless = self.oracle.mesh != "none"
            checks = list(oracle_check_cells(host, kinds, self.rng, self.oracle.analytic, traceless=traceless))
            out += checks
            reasons.append("check the oracle's derivatives")
            if self.state.noise is None:
                out += noise_cells(next(c[0] for c in checks if c[5]["name"] == BASE), kinds)
                reasons.append("measure its noise")
        return "; ".join(reasons), out

    def _start(self) -> tuple[str, list[Candidate]]:
        p = self.problem
        silent = self.state.noise is not None and self.state.noise.force == 0.0
        rattles = ANALYTIC_RATTLES if self.oracle.analytic else SILENT_RATTLES if silent else NOISY_RATTLES
        first = list(start_cells(p.cell(p.first_size), self.kinds, self.rng, rattles))
        if self.observed.constants:
            return f"no first cell on {name(p.first_size)} is left: again at another rattle", first
        out: list[Candidate] = [(rounded(p.host.atoms()), self.kinds, "reference", "references", (1, 1, 1), {})]
        out += phase_cells({s: v.model_dump() for s, v in p.config.references.items() if isinstance(v, PhaseSection)})
        out += self._references(p.first_size)
        fc_size = p.fc_size(nondiagonal=self._small)
        out += force_constant_cells(p.host, fc_size, self._step(fc_size), "FC tail", nondiagonal=self._small)
        out += first
        if p.config.dataset.isolated_atoms:
            out += isolated_atoms(p.defect.species(p.host))
        cells = "a first cell" if len(first) == 1 else "first cells"
        text = f"perfect crystal (FC on {name(fc_size)}), {cells} on {name(p.first_size)}"
        return text, out

    def _round(self, action: Action) -> tuple[str, list[Candidate]]:
        p, s = self.problem, self.state
        out: list[Candidate] = []
        if action.fc_size is not None:
            s.fc_size = action.fc_size
            step = self._step(action.fc_size)
            out += force_constant_cells(p.host, action.fc_size, step, "folding", nondiagonal=self._small)
        if action.strain:
            amplitude = self._tail_strain()
            out += strain_cells(p.host, amplitude, self.rng, 100 * self.number, "V tail")
        if action.verify is not None and s.u is not None:
            s.rung, s.verification = action.verify, self.number
            cell = p.cell(action.verify)
            sigma = rattle(s.eta_previous, self._quiet(cell)) if s.unanswered else 0.0
            out += self._references(action.verify)
            atoms = verification_cell(cell, p.target, s.u, sigma, self.rng)
            out.append((atoms, self.kinds, "verification", "core", action.verify, {"rattle": sigma}))
            if s.second is not None:  # of two basins so near in energy the first surrogate cannot tell which is lower
                first = p.cell(p.first_size)
                other = rounded(first.atoms(first.restrict(p.target, s.second)))
                out.append((other, self.kinds, "training", "basin", p.first_size, {"rattle": 0.0}))
            if "V" in self.oracle.supports and not self.observed.strains:
                out += strain_cells(p.host, START_STRAIN, self.rng, 0, "V tail")  # the first estimate needs them
        elif action.fc_size is None:
            s.verification = None
            out += self._repair()
        if p.config.decisions.speculation and self.posterior is not None and self.solution is not None:
            out += ahead(p, s, self.solution, *self.posterior(), out, self.kinds, self.number)
        return action.reason, out

    def _repair(self) -> list[Candidate]:
        """Two more rattled training cells on the current rung, about u^h where it is sane."""
        p, s = self.problem, self.state
        rung = s.rung or p.first_size
        cell = p.cell(rung)
        out: list[Candidate] = []
        for sigma in (0.05, 0.1):
            u = cell.start(sigma, self.rng)
            if s.u is not None and np.abs(s.u).max() < 0.5 * p.host.nearest:
                u = u - cell.start(0.0, self.rng) + cell.restrict(p.target, s.u)
            out.append((rounded(cell.atoms(u)), self.kinds, "training", "gate", rung, {"rattle": sigma}))
        return out

    def _references(self, size: Size) -> list[Candidate]:
        """What the energies of the rung are compared with, for an oracle with a mesh (decisions C2).

        The conventional cell with the folded mesh where the oracle takes one, else the perfect supercell.
        """
        if self.oracle.mesh == "none" or size in self.observed.references:
            return []
        if self.oracle.mesh_of is not None:
            atoms = rounded(folded_cell(self.problem.host, size, self.oracle.mesh_of))
            return [(atoms, self.kinds, "reference", "references", size, {"cells": 1})]
        return [(rounded(self.problem.host.atoms(size)), ("E", "F"), "reference", "references", size, {})]

    @property
    def _small(self) -> bool:
        """Whether force constants come from non-diagonal cells: a k-point mesh that folds onto the rungs' does not fit
        into them, and noise is better averaged in a large one."""
        silent = self.state.noise is not None and self.state.noise.force == 0.0
        return silent and self.oracle.mesh == "none"

    def _step(self, size: Size) -> float:
        """FC displacement in Å on `size` (decisions C10). States of earlier versions do not know the noise."""
        noise = self.state.noise
        if noise is not None and noise.force == 0.0:
            return ANALYTIC_STEP
        if noise is None or self.solution is None:
            return NOISY_STEP
        third = third_derivative(self.solution.surrogate, ForceConstantCell(self.problem.host, size))
        return force_constant_step(noise.force, third)

    def _quiet(self, cell: DefectCell) -> float:
        """The largest rattle of a verification call on `cell`, Å, that noisy force constants can take out again."""
        noise, solution = self.state.noise, self.solution
        if noise is None or solution is None or not self.observed.constants:
            return np.inf
        rng = np.random.default_rng([self.problem.config.campaign.seed, self.number, 3])
        own, _ = eta_noise(noise.force, cell, self.problem.target, lambda r: (solution.green(r), True), rng)
        label = self.observed.constants[-1]
        gain = rattle_gain(self.problem.host.nb * int(np.prod(label.size)), label.step)
        return quiet_rattle(own, gain, HARMLESS * self.problem.config.target.tol_geo)

    def _tail_strain(self) -> float:
        """The strain at |l| = L: the largest |Du| / sqrt(s2) outside the rung, between 0.5 and 3 %."""
        p, s = self.problem, self.state
        if s.u is None or s.rung is None:
            return START_STRAIN
        outside = p.target.strain(s.u)[p.target.outside(p.cell(s.rung).half_width)]
        return float(np.clip(outside.max() / np.sqrt(p.host.s2), 0.005, 0.03))

    def _meshed(self, atoms: Atoms, rung: Size) -> Atoms:
        """Conventional cells, strained or not, all carry the mesh of the unstrained one: their values compare."""
        if self.oracle.mesh_of is not None and rung == (1, 1, 1):
            atoms.info[KEY] = self.oracle.mesh_of(self.problem.host.atoms())
        return atoms

    def _finish(self, reason: str, candidates: Iterable[Candidate]) -> Decision:
        proposals = tuple(
            Proposal(k, self._meshed(atoms, rung), kinds, role, term, rung, meta)
            for k, (atoms, kinds, role, term, rung, meta) in enumerate(candidates)
        )
        declared = self.problem.config.cost
        cost = cost_model(declared.model, declared.exponent, self.observed.timings.values())
        total, smallest = sum(cost(len(p.atoms), p.role) for p in proposals), cost(0)
        solution = self.state.solution
        return Decision(
            number=self.number,
            reason=reason,
            proposals=proposals,
            inputs=tuple(sorted(self.observed.keys)),
            seed=self.problem.config.campaign.seed,
            cost_model=cost.to_json(),
            weights=dict(solution.get("weights", {})),
            summary={
                "phase": self.state.phase,
                "lattice_constant": self.state.lattice_constant,
                "oracle_noise": None if self.state.noise is None else self.state.noise.to_json(),
                "relative_cost": total / smallest,
                **({OPEN: sorted({int(n) for n, _, _ in self.state.open})} if self.state.open else {}),
                **({TAKEN_BACK: self.state.taken_back} if self.state.taken_back else {}),
                **({"core_seconds": total} if isinstance(cost, FittedCost) and cost.timed else {}),
                **{k: v for k, v in solution.items() if k != "weights"},
            },
            state=self.state.to_bytes(),
        )
