"""Other ways to choose training cells, with the product's own surrogate, fit, weights and relaxation.

A `Collector` buys what a strategy names, charges every call, and tells the true error of the surrogate after each. What
makes a strategy is in `STRATEGIES`: a generator that looks at the collector and yields the cells to buy next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from rehearsal import OTHER_BASIN, answer, relaxed_oracle

from farfield.oracles.oracle import Oracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.decision import Decision, Proposal
from farfield.service.campaign.observed import Observed
from farfield.service.campaign.opening import equilibrium
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.training import TrainingSet
from farfield.service.cells import Size, half_width, next_rung
from farfield.service.estimates.solution import Solution, relaxed
from farfield.service.proposals import loss_weights
from farfield.service.proposals.opening import force_constant_cells, lattice_cells, start_cells, strain_cells
from farfield.service.proposals.verification import rounded
from farfield.service.surrogate import Basis, Posterior, Surrogate, design

__all__ = ["STRATEGIES", "Collector", "Step"]

Array = NDArray[np.float64]
Candidate = tuple[Atoms, tuple[str, ...], str, str, Size, dict[str, Any]]

ROUGH = 0.05
"""Å, rattle of first cells and of repeated cells of one size."""
FINE = 0.02
"""Å, rattle of on-policy candidates."""


@dataclass(frozen=True)
class Step:
    """After a purchase: the atoms of each call in it, its oracle seconds, the true error (Å) of the refit, why."""

    calls: list[int]
    seconds: float
    true: float
    why: str


@dataclass
class Collector:
    """A record, the surrogate fitted to it, and its solution in the target cell."""

    oracle: Oracle
    config: CampaignConfig
    seed: int
    top: int
    observed: Observed = field(default_factory=Observed)
    u: Array | None = None
    solution: Solution | None = None
    posterior: Posterior | None = None
    truths: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.config.campaign.seed, self.seed])
        self.problem = Problem(self.config)
        self.number = 0
        self.pending: list[int] = []
        self.seconds = 0.0
        self.buy(lattice_cells(self.problem.host, ("E",)))
        a, _ = equilibrium(self.observed.energies)
        self.problem = Problem(self.config, float(np.round(a, 8)))
        host = self.problem.host
        self.buy([(rounded(host.atoms()), ("E", "F", "V"), "reference", "references", (1, 1, 1), {})])
        p = self.problem
        self.training = TrainingSet(p.basis(p.first_level), host, p.defect, at_rest=True)

    def buy(self, candidates: Iterable[Candidate]) -> None:
        """Ask the oracle and charge."""
        proposals = tuple(Proposal(k, *c) for k, c in enumerate(candidates))
        decision = Decision(self.number, "", proposals, (), 0, {}, {}, {}, b"")
        start = time.perf_counter()
        answers = [answer(self.oracle, p, self.number) for p in proposals]
        self.seconds += time.perf_counter() - start
        self.observed.add(decision, answers)
        self.pending += [len(p.atoms) for p in proposals]
        self.number += 1

    def cell(self, size: Size, sigma: float) -> Candidate:
        """The surrogate's solution restricted to `size`, rattled; the ideal defect before there is one."""
        cell = self.problem.cell(size)
        if self.u is None:
            atoms = cell.atoms(cell.start(sigma, self.rng))
        else:
            noise = sigma * self.rng.normal(size=(cell.natoms, 3))
            atoms = cell.atoms(cell.restrict(self.problem.target, self.u) + noise)
        return rounded(atoms), ("E", "F"), "training", "core", size, {"rattle": sigma}

    def refit(self, why: str) -> Step:
        """Fit to all, relax in the target cell, compare with the truth."""
        reference = self.observed.references[(1, 1, 1)][0]
        self.training.update(self.observed, reference)
        target = self.problem.target
        largest = max((d.size for d in self.observed.defects), key=lambda s: half_width(target.host, s))
        L = half_width(target.host, largest)
        weights = loss_weights(
            tail_l2=None if self.u is None else target.norm(self.u, L),
            tail_l4=None if self.u is None else target.norm(self.u, L, 4),
            s2=target.host.s2,
            a=target.host.a,
            n_conf=self.training.n_defects,
            n_strain=self.training.n_strains,
            strain2=4e-4,
            with_fc=bool(self.observed.constants),
            with_v=bool(self.observed.strains),
        )
        self.posterior, surrogate = self.training.fit(weights, reference)
        fresh = [target.start(0.05, np.random.default_rng([self.seed, k])) for k in range(2)]
        self.solution = relaxed(surrogate, target, fresh if self.u is None else [self.u, *fresh])
        if self.solution.relaxation.converged:
            self.u = self.solution.u
        calls, self.pending = self.pending, []
        seconds, self.seconds = self.seconds, 0.0
        return Step(calls, seconds, self._true(), why)

    def _true(self) -> float:
        solution = self.solution
        if solution is None or not solution.relaxation.converged or solution.operator.minimum <= 0:
            return float("inf")  # no surrogate that anybody could use
        norm = self.problem.target.norm
        if all(norm(solution.u - u) > OTHER_BASIN for u in self.truths):
            self.truths.append(relaxed_oracle(self.oracle, solution)[0])
        return min(norm(solution.u - u) for u in self.truths)

    @property
    def ladder(self) -> list[Size]:
        """The rungs from the first to the `top`."""
        out = [self.problem.first_size]
        while max(out[-1]) < self.top or min(out[-1]) < self.top:
            out.append(next_rung(self.problem.host, out[-1]))
        return out

    def constants(self) -> list[Candidate]:
        """Force constants, as the product's opening buys them."""
        return list(
            force_constant_cells(
                self.problem.host, self.problem.fc_size(nondiagonal=True), 0.01, "FC tail", nondiagonal=True
            )
        )

    def strains(self) -> list[Candidate]:
        """Strained pairs, as the product's opening buys them."""
        return list(strain_cells(self.problem.host, 0.02, self.rng, 100 * self.number, "V tail"))

    def start(self) -> Step:
        """Two cells on the first rung, ideal and rattled."""
        cell = self.problem.cell(self.problem.first_size)
        self.buy(start_cells(cell, ("E", "F"), self.rng, (0.0, ROUGH)))
        return self.refit("start")

    def members(self, count: int = 4) -> list[Surrogate]:
        """A committee drawn from the posterior."""
        if self.posterior is None:
            raise RuntimeError("a committee needs a fit")
        draws = self.posterior.draws(count, int(self.rng.integers(2**31)))
        return [Surrogate(self.training.basis, c) for c in draws]


def _grow(repeats: int) -> Callable[[Collector], Iterator[Step]]:
    """EF only on growing cubic cells, `repeats` rattled cells of each size."""

    def run(c: Collector) -> Iterator[Step]:
        yield c.start()
        n = max(c.problem.first_size)
        for k in range(n if repeats > 2 else n + 1, c.top + 1):
            for _ in range(repeats):
                c.buy([c.cell((k, k, k), ROUGH)])
                yield c.refit(f"{k}^3")

    return run


def _large(c: Collector) -> Iterator[Step]:
    """One large cell from the start, rattled on policy again and again."""
    n = c.top
    c.buy(start_cells(c.problem.cell((n, n, n)), ("E", "F"), c.rng, (ROUGH,)))
    yield c.refit("first")
    while True:
        c.buy([c.cell((n, n, n), ROUGH)])
        yield c.refit(f"{n}^3")


def _ladder(rows: bool) -> Callable[[Collector], Iterator[Step]]:
    """The product's ladder without estimates: next rung every time, E and F; `rows`: FC and V first."""

    def run(c: Collector) -> Iterator[Step]:
        if rows:
            c.buy([*c.constants(), *c.strains()])
        yield c.start()
        for size in c.ladder[1:]:
            c.buy([c.cell(size, 0.0)])
            yield c.refit("x".join(map(str, size)))

    return run


def _random(c: Collector) -> Iterator[Step]:
    """Uniform over the rungs, FC and V."""
    yield c.start()
    while True:
        k = int(c.rng.integers(len(c.ladder) + 2))
        if k < len(c.ladder):
            c.buy([c.cell(c.ladder[k], FINE)])
        else:
            c.buy(c.constants() if k == len(c.ladder) else c.strains())
        yield c.refit("random")


def _committee(per_cost: bool) -> Callable[[Collector], Iterator[Step]]:
    """Largest force deviation of four members (the way of DP-GEN), over the rungs; or per cost."""

    def run(c: Collector) -> Iterator[Step]:
        yield c.start()
        while True:
            members = c.members()

            def score(candidate: Candidate, members: list[Surrogate] = members) -> float:
                forces = np.array([m.evaluate(candidate[0])[1] for m in members])
                deviation = float(np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)).max())
                return deviation / len(candidate[0]) ** 2 if per_cost else deviation

            best = max((c.cell(size, FINE) for size in c.ladder), key=score)
            c.buy([best])
            yield c.refit("x".join(map(str, best[4])))

    return run


def _d_optimal(c: Collector) -> Iterator[Step]:
    """Largest gain of log det per cost on the force rows (the way of MTP), over the rungs, FC left out."""
    yield c.start()
    while True:
        posterior, basis = c.posterior, c.training.basis
        if posterior is None:
            raise RuntimeError("a design needs a fit")

        def score(candidate: Candidate, posterior: Posterior = posterior, basis: Basis = basis) -> float:
            W = posterior.whiten(design(basis, candidate[0]).forces) / posterior.noise
            gain = np.linalg.slogdet(np.eye(len(W)) + W @ W.T)[1]
            return float(gain) / len(candidate[0]) ** 2

        best = max((c.cell(size, FINE) for size in c.ladder), key=score)
        c.buy([best])
        yield c.refit("x".join(map(str, best[4])))


STRATEGIES: dict[str, Callable[[Collector], Iterator[Step]]] = {
    "growth, 1 a size": _grow(1),
    "growth, 2 a size": _grow(2),
    "growth, 4 a size": _grow(4),
    "one large cell": _large,
    "random": _random,
    "committee": _committee(per_cost=False),
    "committee per cost": _committee(per_cost=True),
    "D-optimal per cost": _d_optimal,
    "ladder": _ladder(rows=False),
    "ladder, FC and V first": _ladder(rows=True),
}
"""Name -> steps without end; the budget ends them."""
