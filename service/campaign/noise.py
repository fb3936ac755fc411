"""The oracle's noise in a campaign: measured at the start, and at the end what no further call can improve on.

The calls are the first cell of the oracle check and three cells equal to it (`proposals.opening.noise_cells`).
"""

from __future__ import annotations

import numpy as np

from farfield.oracles.noise import Noise, measured
from farfield.service.campaign.decision import OracleInfo
from farfield.service.campaign.observed import Observed
from farfield.service.estimates import Estimate

__all__ = ["BASE", "declared", "limited", "noise_of", "only_noise"]

BASE = "displaced+1"
"""The cell of the oracle check to which the noise cells are equal."""
ABOVE = 2.0
"""The core part must be so many times what noise gives by itself to be more than noise (decisions C10)."""


def declared(oracle: OracleInfo) -> Noise | None:
    """No noise for an analytic oracle; None: it has to be measured."""
    return Noise(0.0, 0.0, 0.0) if oracle.analytic else None


def noise_of(observed: Observed) -> Noise | None:
    """The noise of what was answered; None where no noise cell was, as in campaigns begun by earlier versions."""
    if BASE not in observed.checks or not observed.equal:
        return None
    p, base = observed.checks[BASE]
    answers = [{"E": base.energy, "F": base.forces, "V": base.virial}]
    for q, a in observed.equal:
        forces = None if a.forces is None else a.forces[np.argsort(q.meta["order"])]
        answers.append({"E": a.energy, "F": forces, "V": a.virial})
    return measured(len(p.atoms), answers)


def only_noise(estimate: Estimate) -> bool:
    """Whether the core part is too small to be told from noise."""
    return estimate.noise is not None and estimate.core < ABOVE * estimate.noise


def limited(estimate: Estimate, tol_geo: float) -> bool:
    """Whether a core part that is only noise keeps the tolerance (Å) away all alone, whatever is done about the rest.

    A term of the far field that is too large is no matter of this (force constants or virials mend it), nor is the
    energy, which goes on getting better. Measured on Cu (EMT with noise, sigma_F 0.0005 eV/Å, tolerances 0.1 Å and
    2.5 meV): with a core part of 1.3 times the noise and eta_E above its tolerance on 3x3x3, the next two rungs met
    both.
    """
    return estimate.believed and only_noise(estimate) and estimate.theta * estimate.core > tol_geo
