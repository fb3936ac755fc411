"""Estimates: oracle minus surrogate -> residual force -> Green operator -> eta_geo and eta_E (theory.md T2, T3)."""

from farfield.service.estimates.dilute import Dilute, dilute_limit, elastic_constants
from farfield.service.estimates.energy import EnergyError, energy_error
from farfield.service.estimates.estimate import Estimate
from farfield.service.estimates.hessian import lowest_curvature, solve
from farfield.service.estimates.lattice import LatticeOperator, dual_norm, interpolate, outer_shell
from farfield.service.estimates.relaxation import Preconditioner, Relaxation, relax
from farfield.service.estimates.residual import core_residual, geometry_error, residual
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
    "residual",
    "solve",
    "virial_mismatch",
]
