"""The surrogate: a linear ACE, its fit and its posterior.

`Basis` selects the functions, `design` gives rows, `Triangle` keeps what a fit needs of any number of them, `fit`
chooses the prior strength and noise by evidence, `Surrogate` evaluates. `reference` is the plain numpy path that the
tests compare with.
"""

from farfield.service.surrogate.basis import CORE, CUTOFFS, LEVELS, Basis, bond_lengths
from farfield.service.surrogate.calculator import SurrogateCalculator
from farfield.service.surrogate.core import core_labels
from farfield.service.surrogate.curvature import hessian_product
from farfield.service.surrogate.fit import fit
from farfield.service.surrogate.model import Evaluator, Surrogate, warm
from farfield.service.surrogate.pairs import neighbours
from farfield.service.surrogate.posterior import Posterior
from farfield.service.surrogate.rows import Rows, design, force_constant_rows
from farfield.service.surrogate.triangle import Triangle

__all__ = [
    "CORE",
    "CUTOFFS",
    "LEVELS",
    "Basis",
    "Evaluator",
    "Posterior",
    "Rows",
    "Surrogate",
    "SurrogateCalculator",
    "Triangle",
    "bond_lengths",
    "core_labels",
    "design",
    "fit",
    "force_constant_rows",
    "hessian_product",
    "neighbours",
    "warm",
]
