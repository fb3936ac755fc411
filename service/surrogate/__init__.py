"""The surrogate: a linear ACE, its fit and its posterior.

`Basis` selects the functions, `design` gives rows, `Triangle` keeps what a fit needs of any number of them, `fit`
chooses the prior strength and noise by evidence, `Surrogate` evaluates. `reference` is the plain numpy path that the
tests compare with. `labelled_rows` and `EvidenceRidge` are the same fit on cells with labels, with scikit-learn's
interface; `grade` says how far a cell lies outside of what a fit has seen.
"""

from typing import TYPE_CHECKING, Any

from farfield.service.surrogate.basis import CORE, CUTOFFS, LEVELS, Basis, bond_lengths
from farfield.service.surrogate.calculator import SurrogateCalculator
from farfield.service.surrogate.curvature import hessian_product
from farfield.service.surrogate.grade import Grade, grade, site_grades
from farfield.service.surrogate.kernels.core import core_labels
from farfield.service.surrogate.kernels.pairs import neighbours
from farfield.service.surrogate.labels import ForceConstantColumn, LabelledRows, calculated, labelled_rows
from farfield.service.surrogate.model import Evaluator, Surrogate, warm
from farfield.service.surrogate.regression.fit import fit
from farfield.service.surrogate.regression.posterior import Posterior
from farfield.service.surrogate.regression.regressor import Regressor, named_regressor
from farfield.service.surrogate.regression.triangle import Triangle
from farfield.service.surrogate.rows import Rows, design, force_constant_rows

if TYPE_CHECKING:
    from farfield.service.surrogate.regression.estimator import EvidenceRidge

__all__ = [
    "CORE",
    "CUTOFFS",
    "LEVELS",
    "Basis",
    "Evaluator",
    "EvidenceRidge",
    "ForceConstantColumn",
    "Grade",
    "LabelledRows",
    "Posterior",
    "Regressor",
    "Rows",
    "Surrogate",
    "SurrogateCalculator",
    "Triangle",
    "bond_lengths",
    "calculated",
    "core_labels",
    "design",
    "fit",
    "force_constant_rows",
    "grade",
    "hessian_product",
    "labelled_rows",
    "named_regressor",
    "neighbours",
    "site_grades",
    "warm",
]


def __getattr__(name: str) -> Any:
    """`EvidenceRidge` on first use: importing scikit-learn takes longer than the rest of the surrogate."""
    if name == "EvidenceRidge":
        from farfield.service.surrogate.regression.estimator import EvidenceRidge

        return EvidenceRidge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
