"""What the loop must know of an oracle, read off the oracle itself."""

from __future__ import annotations

from farfield.oracles.oracle import Oracle
from farfield.service.campaign.decision import OracleInfo

__all__ = ["oracle_info"]


def oracle_info(oracle: Oracle) -> OracleInfo:
    """Name, mesh rule, noise and kinds of `oracle`."""
    return OracleInfo(oracle.name, oracle.mesh, oracle.analytic, frozenset(oracle.supports))
