"""Rows and labels of a set of cells, ready for any linear regressor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farfield.errors import FitError
from farfield.oracles.observation import KINDS, virial_from_stress
from farfield.service.surrogate.kernels.core import core_labels
from farfield.service.surrogate.rows import design, force_constant_rows

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.service.surrogate.basis import Basis

__all__ = ["WEIGHTS", "ForceConstantColumn", "LabelledRows", "calculated", "labelled_rows"]

Array = NDArray[np.float64]

WEIGHTS = {"E": 5.0, "F": 1.0}
"""Weights of the rows of each kind (decisions C8): 5 per Å for total energies, 1 for forces."""


class ForceConstantColumn(NamedTuple):
    """A column -dF/du of force constants, `values` (N, 3) eV/Å^2, of `site` along `direction`, by +-`step` (Å)."""

    site: int
    direction: Sequence[float]
    step: float
    values: ArrayLike


class LabelledRows(NamedTuple):
    """Weighted rows X (m, K) with labels y (m,); `kinds` (m,) names and `cells` (m,) index where each comes from.

    A row holds w A and a label w y less what the fixed core gives, both in eV/Å: forces as they are.
    """

    X: Array
    y: Array
    kinds: NDArray[np.str_]
    cells: NDArray[np.int64]

    @property
    def judges(self) -> NDArray[np.bool_]:
        """(m,) rows from which prior strength and noise are read: energies and forces (`fit.fit`)."""
        return np.isin(self.kinds, ("E", "F"))


def labelled_rows(
    basis: Basis,
    cells: Iterable[Atoms],
    labels: Iterable[Mapping[str, Any]] | None = None,
    weights: Mapping[str, float] | None = None,
) -> LabelledRows:
    """Rows of all `cells` in their order, E, F, V, FC within each, for the kinds that have a weight and a label.

    `labels`: for each cell any of E (eV), F (N, 3) eV/Å, V (6,) eV and FC, a sequence of `ForceConstantColumn`; None:
    what the cells' own calculators hold (`calculated`). `weights`: per kind, None: `WEIGHTS`; V rows are per atom.

    Raises FitError for no rows at all, a cell whose calculator holds no label, an unknown kind, or labels of a wrong
    shape or not finite; BasisError for cells the basis cannot describe.
    """
    w = dict(WEIGHTS if weights is None else weights)
    if not set(w) <= set(KINDS) or not all(np.isfinite(x) and x >= 0 for x in w.values()):
        raise FitError(f"weights {w} must name kinds of {', '.join(KINDS)} and not be negative")
    cells = list(cells)
    given = [calculated(a) for a in cells] if labels is None else list(labels)
    if len(given) != len(cells):
        raise FitError(f"{len(given)} sets of labels do not fit {len(cells)} cells; give one for each")
    X, y, kinds, owners = [], [], [], []
    for index, (atoms, mine) in enumerate(zip(cells, given, strict=True)):
        if not set(mine) <= set(KINDS):
            raise FitError(f"cell {index} has labels {', '.join(mine)}; the known kinds are {', '.join(KINDS)}")
        if labels is None and not any(w.get(k, 0.0) > 0 for k in mine):
            raise FitError(f"cell {index} holds none of the labels {', '.join(w)}; calculate it, or give the labels")
        for kind, A, core, values in _blocks(basis, atoms, {k: v for k, v in mine.items() if w.get(k, 0.0) > 0}):
            b = np.asarray(values, float)
            wanted = KINDS[kind].shape_for(len(atoms))
            if b.shape != wanted or not np.isfinite(b).all():
                raise FitError(f"{kind} of cell {index} is not {wanted} finite numbers; withdraw that observation")
            scale = w[kind] * KINDS[kind].row_scale(len(atoms))
            X.append(scale * A)
            y.append(scale * (b - core).ravel())
            kinds.append(np.full(b.size, kind))
            owners.append(np.full(b.size, index))
    if not X:
        raise FitError(f"no cell has a label of the weighted kinds {', '.join(w)}; label cells or weight other kinds")
    return LabelledRows(np.vstack(X), np.concatenate(y), np.concatenate(kinds), np.concatenate(owners))


def calculated(atoms: Atoms) -> dict[str, Any]:
    """E, F and V that the calculator of `atoms` holds for them as they are, without calculating: as read from a file.

    E is the free energy where there is one, of which F and V are derivatives.
    """
    calc = atoms.calc
    held = {} if calc is None or calc.check_state(atoms) else {k: v for k, v in calc.results.items() if v is not None}
    labels = {"E": held.get("free_energy", held.get("energy")), "F": held.get("forces")}
    if "stress" in held:
        labels["V"] = virial_from_stress(np.asarray(held["stress"]), atoms.get_volume())
    return {k: v for k, v in labels.items() if v is not None}


def _blocks(basis: Basis, atoms: Atoms, labels: Mapping[str, Any]) -> Iterable[tuple[str, Array, Any, Any]]:
    """(kind, rows (., K), what the core gives, labels) of one cell, in the order of the registry."""
    if set(labels) & {"E", "F", "V"}:
        rows = design(basis, atoms)
        core = core_labels(basis, atoms)
        for kind, A, part in zip("EFV", (rows.energy[None], rows.forces, rows.virial), core, strict=True):
            if kind in labels:
                yield kind, A, part, labels[kind]
    for column in labels.get("FC", ()):
        site, direction, step, values = column
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[site] += sign * step * np.asarray(direction, float) / np.linalg.norm(direction)
            sides.append(core_labels(basis, moved)[1])
        part = (sides[1] - sides[0]) / (2 * step)
        yield "FC", force_constant_rows(basis, atoms, site, direction, step), part, values
