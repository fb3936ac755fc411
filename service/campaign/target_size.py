"""Whether the target cell is large enough for the formation energy (decisions C13).

The target's own images change E_f by about a / L^3; the elastic image correction takes most of it out and is reported
(`estimates.dilute`). What the surrogate says of a target 1.5 times larger needs no oracle and no elasticity.
"""

from __future__ import annotations

from farfield.service.cells import DefectCell
from farfield.service.estimates.solution import Solution, relaxed

__all__ = ["SHARE", "in_larger", "larger", "may_grow"]

FACTOR = 1.5
SHARE = 3.0
"""The target grows before the campaign ends where E_f changes by more than this part of its tolerance."""
LARGEST = 40_000
"""Atoms of a target beyond which it does not grow: the surrogate's relaxation would outlast the oracle."""


def larger(edge: int) -> int:
    """Conventional cells per edge of the cell to compare with."""
    return max(edge + 1, round(FACTOR * edge))


def may_grow(target: DefectCell) -> bool:
    """Whether a target of that size is still handled."""
    return target.natoms <= LARGEST


def in_larger(solution: Solution, target: DefectCell) -> Solution | None:
    """The solution of the same surrogate in `target`, from `solution` extended by zero.

    None where that did not converge or `target` is too large to try.
    """
    if not may_grow(target):
        return None
    other = relaxed(solution.surrogate, target, [target.extend(solution.target, solution.u)])
    return other if other.relaxation.converged else None
