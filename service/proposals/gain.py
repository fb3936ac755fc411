"""What a calculation would teach about the goals, per cost, before the oracle is paid (theory.md section 3).

The coefficients are N(c, Sigma) (`Posterior`). A candidate whose noise-scaled rows are X leaves

    Sigma' = Sigma - Sigma X^T (I + X Sigma X^T)^-1 X Sigma,     score = log(tr(Q Sigma) / tr(Q Sigma')) / cost,
    Q = M / tol_geo^2 + g_E g_E^T / tol_E^2,   M = J^T J,   J = D G Phi_F,

with Phi_F the force rows of the target cell at u^h, G its lattice Green operator and g_E the gradient of the formation
energy: Bayesian experimental design for linear models (Chaloner and Verdinelli, Statistical Science 10, 273 (1995)).

Everything is kept in coordinates z in which Sigma is the unit matrix: a coefficient's own scale, which spans ten orders
of magnitude, never meets another's, and no covariance is formed. The posterior knows nothing of the basis' bias: gains
order actions of the same rank and say nothing of the error (measured: by themselves no better than a growing cell).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from farfield.service.cells import DefectCell
from farfield.service.proposals.cost import CostModel
from farfield.service.surrogate import Posterior

__all__ = ["Candidate", "Goals", "Scored", "batch", "goals", "rank"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A purchase under consideration.

    `rows`: kind -> design rows (m, K), unweighted and in the scaling of the fit (E 1, F 1, V 1/N, FC 1), on the
    surrogate's geometry; any rows with the same A^T A serve, such as a triangle's. `cells`: (atoms, role) of each call.
    """

    name: str
    rows: Mapping[str, Array] = field(repr=False)
    cells: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Goals:
    """Q in the coordinates of one posterior: `factor` (K, g) with tr(Q Sigma) = sum of its squares.

    `geometry` and `energy`: the variances of the geometry and of the formation energy in units of the tolerances.
    """

    factor: Array = field(repr=False)
    geometry: float
    energy: float


@dataclass(frozen=True)
class Scored:
    """A candidate with `gain` = log(tr(Q Sigma) / tr(Q Sigma')), its cost, and score = gain / cost."""

    candidate: Candidate
    gain: float
    cost: float

    @property
    def score(self) -> float:
        """Gain per cost."""
        return self.gain / self.cost


def goals(
    posterior: Posterior,
    forces: Array,
    gradient: Array,
    target: DefectCell,
    green: Callable[[Array], Array],
    tol_geo: float,
    tol_energy: float,
    *,
    sketch: int | None = None,
    seed: int = 0,
) -> Goals:
    """The goals at u^h: `forces` Phi_F (3N, K) of the target cell, `gradient` g_E (K,), tolerances in Å and eV.

    `green` (N, 3) -> (N, 3) is symmetric (`Solution.green`). It is applied K times, or `sketch` times to random fields
    in place of them: then M is that of a Gaussian sketch of J, whose trace is off by sqrt(2 / sketch) at most.
    """
    whitened = posterior.whiten(forces)
    bonds = _incidence(target)
    laplace = bonds.T @ bonds
    if sketch is None or sketch >= len(whitened):
        fields = np.stack([green(row.reshape(-1, 3)).ravel() for row in whitened])
        pulled = np.stack([(laplace @ f.reshape(-1, 3)).ravel() for f in fields])
        w, v = np.linalg.eigh(fields @ pulled.T)  # <D f, D g> = <f, D^T D g>: no field on the bonds is kept
        kept = w > 1e-14 * max(float(w[-1]), 0.0)
        geometry = v[:, kept] * np.sqrt(w[kept])
    else:
        rng = np.random.default_rng(seed)
        pulls = (green(bonds.T @ rng.normal(size=(bonds.shape[0], 3))).ravel() for _ in range(sketch))
        geometry = np.stack([whitened @ q for q in pulls], axis=1) / np.sqrt(sketch)
    energy = posterior.whiten(gradient) / tol_energy
    geometry = geometry / tol_geo
    return Goals(np.hstack([geometry, energy]), float((geometry**2).sum()), float((energy**2).sum()))


def _incidence(target: DefectCell) -> csr_array:
    """D as a sparse matrix (bonds, N): u -> u(j) - u(i), the same for each component."""
    i, j = target.bonds
    rows = np.arange(len(i))
    values = np.concatenate([-np.ones(len(i)), np.ones(len(j))])
    return csr_array((values, (np.tile(rows, 2), np.concatenate([i, j]))), shape=(len(i), target.natoms))


def rank(
    candidates: Sequence[Candidate],
    posterior: Posterior,
    goals: Goals,
    cost: CostModel,
    *,
    weights: Mapping[str, float] | None = None,
    known: Sequence[Candidate] = (),
) -> list[Scored]:
    """The candidates by gain per cost, the best first; equals in the order given.

    `weights` of the kinds, by default those of the fit: a kind that is not fitted teaches nothing unless it is given
    one. `known`: calculations in flight, whose labels are as good as there. Raises FitError for rows of another basis,
    ValueError for a candidate without a cost.
    """
    state = _State(candidates, posterior, goals, posterior.weights if weights is None else weights, known)
    return sorted((state.scored(k, cost) for k in range(len(candidates))), key=lambda s: -s.score)


def batch(
    candidates: Sequence[Candidate],
    posterior: Posterior,
    goals: Goals,
    cost: CostModel,
    count: int,
    *,
    weights: Mapping[str, float] | None = None,
    known: Sequence[Candidate] = (),
) -> list[Scored]:
    """`count` candidates chosen one after the other, each with those before it known: its gain is what it adds.

    Greedy, by rank updates; the other arguments and errors are those of `rank`.
    """
    state = _State(candidates, posterior, goals, posterior.weights if weights is None else weights, known)
    left = list(range(len(candidates)))
    out: list[Scored] = []
    while left and len(out) < count:
        found = [state.scored(k, cost) for k in left]
        best = max(range(len(left)), key=lambda k: (found[k].score, -k))
        out.append(found[best])
        state.learn(state.rows[left.pop(best)])
    return out


class _State:
    """Candidates' rows Z (m, K) and the goals' factor W (K, g) in coordinates where the covariance is one."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        posterior: Posterior,
        goals: Goals,
        weights: Mapping[str, float],
        known: Sequence[Candidate],
    ) -> None:
        self.candidates = candidates
        self.rows = [_whitened(c, posterior, weights) for c in candidates]
        self.goals = goals.factor
        for c in known:
            self.learn(_whitened(c, posterior, weights))

    def scored(self, k: int, cost: CostModel) -> Scored:
        candidate = self.candidates[k]
        price = sum(cost(natoms, role) for natoms, role in candidate.cells)
        if not price > 0:
            raise ValueError(f"{candidate.name} costs {price:g}: name the cells it calls for")
        return Scored(candidate, self._gain(self.rows[k]), price)

    def _gain(self, Z: Array) -> float:
        """log(|W|^2 / |W'|^2), W' the goals once Z is known; what Z does not touch is not taken from itself."""
        before = float((self.goals**2).sum())
        if before == 0.0 or not len(Z):
            return 0.0
        _, s, v = np.linalg.svd(Z, full_matrices=False)
        seen = v @ self.goals
        unseen = self.goals - v.T @ seen
        after = float((unseen**2).sum() + (seen**2 / (1 + s[:, None] ** 2)).sum())
        # a gain near zero is the small share removed, and not the difference of two logarithms of nearly one
        removed = float((seen**2 * (s[:, None] ** 2 / (1 + s[:, None] ** 2))).sum())
        return float(np.log(before / after)) if removed > 0.5 * before else float(-np.log1p(-removed / before))

    def learn(self, Z: Array) -> None:
        """Count Z as known: the coordinates are those of Sigma' from here on."""
        if not len(Z):
            return
        _, s, v = np.linalg.svd(Z, full_matrices=False)
        shrink = 1 - 1 / np.sqrt(1 + s**2)
        self.goals = self.goals - v.T @ (shrink[:, None] * (v @ self.goals))
        self.rows = [other - ((other @ v.T) * shrink) @ v for other in self.rows]


def _whitened(candidate: Candidate, posterior: Posterior, weights: Mapping[str, float]) -> Array:
    """The candidate's noise-scaled rows X in the posterior's coordinates, X Sigma^{1/2} (m, K), at most K of them."""
    parts = [
        weights.get(kind, 0.0) * posterior.whiten(rows).T / posterior.noise
        for kind, rows in sorted(candidate.rows.items())
        if weights.get(kind, 0.0) > 0 and len(rows)
    ]
    K = posterior.mean.size
    if not parts:
        return np.zeros((0, K))
    Z = np.vstack(parts)
    return np.asarray(np.linalg.qr(Z, mode="r")) if len(Z) > K else Z
