"""Chemical potentials: what atoms that come or go are worth (decisions C9).

E_f = E(defect) - n_cells E(host) - sum_s dN_s mu_s. Every mu_s but an elemental host's own is one constant for oracle
and surrogate, so it cancels in the estimates. In a compound host of two species mu lies between two limits: one species
is as in its own phase, and the host holds the other, n_A mu_A + n_B mu_B = E(host).
"""

from __future__ import annotations

from collections.abc import Mapping

from farfield.errors import ConfigError
from farfield.service.cells import Defect, Host

__all__ = ["constant", "rich_limits"]


def constant(host: Host, defect: Defect, potentials: Mapping[str, float]) -> float:
    """sum_s dN_s mu_s, eV, without an elemental host's own species. Raises ConfigError for a missing reference."""
    total = 0.0
    for s, n in defect.excess(host).items():
        if host.elemental and s == host.species[0]:
            continue
        if s not in potentials:
            raise ConfigError(
                f"the defect changes the number of {s} atoms: set references.{s} to its chemical potential in eV, or "
                "to the file of a phase of it",
                key=f"references.{s}",
            )
        total += n * potentials[s]
    return total


def rich_limits(host: Host, defect: Defect, potentials: Mapping[str, float], reference: float) -> dict[str, float]:
    """sum_s dN_s mu_s, eV, at both limits of a host of two species whose phases are both known; else empty.

    `reference`: E of one conventional cell of the host, eV.
    """
    if len(host.species) != 2 or any(s not in potentials for s in host.species):
        return {}
    out = {}
    for rich in host.species:
        other = next(s for s in host.species if s != rich)
        count = {s: host.symbols.count(s) for s in host.species}
        limit = {**potentials, other: (reference - count[rich] * potentials[rich]) / count[other]}
        out[rich] = constant(host, defect, limit)
    return out
