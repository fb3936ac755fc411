"""The truth, bought: the defect relaxed with the oracle in the target cell, from the surrogate's solution.

For benchmarks and for those who want to know; a campaign never does this. Every call is an attempt in the database,
outside any decision, and runs in a sandbox on the cluster like every other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from farfield.db.claims import Claims
from farfield.db.record import Record
from farfield.errors import CampaignError, OracleError
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.campaign.config import CampaignConfig
from farfield.service.cells import DefectCell
from farfield.service.cells.folding import folded_cell
from farfield.service.cells.symmetry import operations, to_origin
from farfield.service.estimates import Estimate
from farfield.service.estimates.relaxation import relax
from farfield.service.proposals.verification import rounded
from farfield.service.runner.budgets import spent_class
from farfield.service.runner.host import this_host
from farfield.service.runner.orders import order_for
from farfield.service.runner.session import LEASE_BEATS, Session
from farfield.service.runner.submission import Submission
from farfield.service.runner.task import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from farfield.db.engine import Database
    from farfield.oracles.oracle import Oracle
    from farfield.service.campaign.loop import Loop
    from farfield.service.runner.cluster import Cluster

__all__ = ["EXPECTED_CALLS", "Buyer", "Truth", "nearest_image", "true_errors"]

Array = NDArray[np.float64]
EXPECTED_CALLS = 10
"""Oracle calls of a preconditioned relaxation that starts near the minimum (2 to 15 seen)."""
FORCE_TOLERANCE = {True: 1e-5, False: 1e-3}
"""eV/Å on the largest component: of an analytic oracle, of a noisy one."""
RESOLVED = 2e-5, 1e-6
"""Å and eV: what is left of the relaxations; a ratio of smaller errors is one of rounding."""
OTHER_BASIN = 0.5
"""A geometry error above this share of the defect's own ||Du|| is another minimum, not an error (decisions C11)."""


@dataclass(frozen=True)
class Truth:
    """True errors of a campaign's result, in Å and eV; ratios eta/true, None where the truth is too small to tell.

    `geometry_error` = ||D(u - u^h)||, the least over the host's symmetry images; `energy_error_raw` of the surrogate's
    own formation energy (what eta_E estimates), `energy_error` of the corrected one. `within`: both errors are below
    the campaign's tolerances.
    """

    formation_energy: float
    formation_energy_raw: float
    formation_energy_corrected: float
    geometry_error: float
    energy_error_raw: float
    energy_error: float
    eta_geo: float
    eta_energy: float
    ratio_geo: float | None
    ratio_energy: float | None
    tol_geo: float
    tol_energy: float
    within: bool
    other_basin: bool
    relaxed: bool
    evaluations: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict of all fields."""
        return asdict(self)


class Buyer:
    """Buys single calculations of a campaign outside its decisions, one after the other; `session` holds them."""

    def __init__(
        self,
        config: CampaignConfig,
        database: Database,
        cluster: Cluster,
        oracle: Oracle,
        campaign: int,
        session: Session,
    ) -> None:
        self.config, self.campaign, self.session = config, campaign, session
        self.record, self.claims = Record(database), Claims(database)
        self.sending = Submission(cluster, self.claims)
        self.fingerprint = fingerprint_hash(oracle)

    def __call__(self, atoms: Atoms, kinds: tuple[str, ...] = ("E", "F")) -> tuple[float, Array]:
        """E (eV) and F (N, 3) (eV/Å) of `atoms`: from the record, else bought. Raises OracleError when it fails."""
        key = self.record.store_calculation(atoms, self.fingerprint)
        failures: dict[str, int] = {}
        while True:
            labels = self.record.labels(key)
            missing = tuple(k for k in kinds if k not in labels.kinds)
            if not missing:
                assert labels.energy is not None
                forces = labels.forces if labels.forces is not None else np.zeros((len(atoms), 3))
                return labels.energy, forces
            if (spent := spent_class(failures)) is not None:
                raise OracleError(f"the oracle gave no answer ({spent}); see `farfield status`", failure=spent)

            def order(attempt: int, missing: tuple[str, ...] = missing) -> Order:
                return order_for(self.config, self.fingerprint, attempt, key, atoms, missing, failures)

            cores = self.config.cluster.cores
            attempt = self.sending.send(order, key, self.campaign, missing, self.session.id, cores)
            if not self._answered(attempt):
                failure = self.claims.failure(attempt) or "worker lost"
                failures[failure] = failures.get(failure, 0) + 1

    def _answered(self, attempt: int) -> bool:
        """Wait for the end of an attempt; whether it brought an answer."""
        while not (back := self.sending.returns(1.0)):
            lost = self.claims.release_dead(*this_host())
            lost += self.claims.expire(LEASE_BEATS * self.session.beat, self.campaign, self.session.heard)
            if attempt in lost:
                self.sending.give_up([attempt])
                return False
        if back[0].outcome == "finished":
            return True
        self.claims.lose(attempt, back[0].message or back[0].outcome)
        return False


def true_errors(loop: Loop, buy: Callable[[Atoms], tuple[float, Array]], estimate: Estimate) -> Truth:
    """Relax the target cell with the oracle and compare. Raises CampaignError without a surrogate's solution."""
    solution = loop.solution
    if solution is None:
        raise CampaignError("the campaign has no surrogate to verify yet; let `farfield run` go on")
    target = solution.target
    evaluations = 0

    def evaluate(positions: Array) -> tuple[float, Array]:
        nonlocal evaluations
        atoms = target.atoms(np.zeros_like(target.x0))
        atoms.positions[:] = positions
        evaluations += 1
        return buy(rounded(atoms))

    tolerance = FORCE_TOLERANCE[loop.oracle.analytic]
    run = relax(evaluate, target, solution.u, solution.green, force_tolerance=tolerance, max_steps=60)
    host, mesh_of = target.host, loop.oracle.mesh_of
    if mesh_of is not None:
        perfect = folded_cell(host, target.size, mesh_of)
    else:
        perfect = host.atoms() if loop.oracle.mesh == "none" else host.atoms(target.size)
    reference, _ = buy(rounded(perfect))
    cells = target.references * len(host.atoms()) / len(perfect)
    truth = run.energy - cells * reference - loop.problem.constant
    geometry = nearest_image(target, run.u, solution.u)
    raw, corrected = estimate.formation_energy_raw, estimate.formation_energy
    goal = loop.config.target
    energy = truth - raw
    return Truth(
        formation_energy=truth,
        formation_energy_raw=raw,
        formation_energy_corrected=corrected,
        geometry_error=geometry,
        energy_error_raw=energy,
        energy_error=truth - corrected,
        eta_geo=estimate.eta_geo,
        eta_energy=estimate.eta_energy,
        ratio_geo=estimate.eta_geo / geometry if geometry > RESOLVED[0] else None,
        ratio_energy=estimate.eta_energy / energy if abs(energy) > RESOLVED[1] else None,
        tol_geo=goal.tol_geo,
        tol_energy=goal.tol_energy,
        within=geometry <= goal.tol_geo and abs(truth - corrected) <= goal.tol_energy,
        other_basin=geometry > OTHER_BASIN * max(target.norm(run.u), 10 * goal.tol_geo),
        relaxed=run.converged,
        evaluations=evaluations,
    )


def nearest_image(cell: DefectCell, u: Array, other: Array) -> float:
    """min over the host's operations g that keep the defect of ||D(g u - other)||, Å; added atoms keep the identity."""
    best = cell.norm(u - other)
    if cell.added:
        return best
    centre = {b for b in cell.defect.removed} | {b for b, _ in cell.defect.changed}
    if len(centre) != 1:
        return best
    site = centre.pop()
    if isinstance(site, tuple):  # a part away from the origin cell: one site alone never is
        return best
    sites = cell.on_sites(u)
    for operation in operations(cell.host, cell.size):
        g = to_origin(operation, site, cell.host, cell.size)
        if int(g.image[site]) != site:
            continue
        moved = np.empty_like(sites)
        moved[g.image] = sites @ g.rotation.T
        best = min(best, cell.norm(cell.from_sites(moved) - other))
    return best
