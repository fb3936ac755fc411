"""Estimates: oracle minus surrogate -> residual force -> Green operator -> eta_geo and eta_E (theory.md T2, T3).

Names are imported on first use: a status reads stored estimates and needs none of the linear algebra.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farfield.service.estimates.dilute import Dilute, dilute_limit, elastic_constants
    from farfield.service.estimates.energy import EnergyError, energy_error
    from farfield.service.estimates.estimate import Estimate
    from farfield.service.estimates.hessian import lowest_curvature, solve
    from farfield.service.estimates.lattice import LatticeOperator, dual_norm, interpolate, outer_shell
    from farfield.service.estimates.relaxation import Preconditioner, Relaxation, relax
    from farfield.service.estimates.residual import core_residual, geometry_error
    from farfield.service.estimates.virial import VirialMismatch, eta_v, virial_mismatch

__all__ = [
    "Dilute",
    "EnergyError",
    "Estimate",
    "LatticeOperator",
    "Preconditioner",
    "Relaxation",
    "VirialMismatch",
    "core_residual",
    "dilute_limit",
    "dual_norm",
    "elastic_constants",
    "energy_error",
    "eta_v",
    "geometry_error",
    "interpolate",
    "lowest_curvature",
    "outer_shell",
    "relax",
    "solve",
    "virial_mismatch",
]

_ROOMS = {
    "dilute": "Dilute dilute_limit elastic_constants",
    "energy": "EnergyError energy_error",
    "estimate": "Estimate",
    "hessian": "lowest_curvature solve",
    "lattice": "LatticeOperator dual_norm interpolate outer_shell",
    "relaxation": "Preconditioner Relaxation relax",
    "residual": "core_residual geometry_error",
    "virial": "VirialMismatch eta_v virial_mismatch",
}
"""Which room has which names."""


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
