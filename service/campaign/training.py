"""The training set: rows of the observed labels, one triangular factor per kind, and the fit (decisions C2, C8).

Row scalings inside the factors are fixed (E 1, F 1, V 1/N, FC 1); weights between kinds enter only when the triangles
are stacked, so a refit with other weights costs the same at any history. Rows of one label at a time are formed and
folded, so a rebuild (another basis, a withdrawn label) takes the same memory at any history.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.observation import KINDS
from farfield.service.campaign.folding import Fold
from farfield.service.campaign.observed import DefectLabel, ForceConstantLabel, Label, Observed, StrainLabel
from farfield.service.cells import (
    Defect,
    DefectCell,
    Host,
    Size,
    free_parameters,
    shift_scale,
)
from farfield.service.surrogate import (
    Basis,
    Posterior,
    Regressor,
    Surrogate,
    Triangle,
    core_labels,
    design,
    fit,
    force_constant_rows,
)

__all__ = ["TrainingSet"]

Array = NDArray[np.float64]


AT_REST = 10.0
"""Weight of the perfect crystal's forces, which vanish, where symmetry does not make them (theory.md section 1, A3)."""


class TrainingSet:
    """Rows for one basis, in the order of the record.

    `at_rest`: the lattice constant is the oracle's own, so that all its V of the perfect cell is Pulay's offset.
    """

    def __init__(
        self, basis: Basis, host: Host, defect: Defect, regressor: Regressor | None = None, *, at_rest: bool = False
    ) -> None:
        self.basis, self.host, self.defect, self.regressor, self.at_rest = basis, host, defect, regressor, at_rest
        perfect = design(basis, host.atoms())
        self.host_row: Array = perfect.energy
        self.host_virial: Array = perfect.virial
        self.host_forces: Array = perfect.forces
        self._clear()

    def _clear(self) -> None:
        self._folds = {kind: Fold(self.basis.size) for kind in KINDS}
        self._taken: dict[str, list[Label]] = {"defects": [], "strains": [], "constants": []}
        if self.at_rest and any(p.name == "sites" for p in free_parameters(self.host)):
            self._folds["F"].add(AT_REST * self.host_forces, np.zeros(len(self.host_forces)))

    @property
    def triangles(self) -> dict[str, Triangle]:
        """The factor of each kind."""
        return {kind: fold.triangle for kind, fold in self._folds.items()}

    @property
    def n_defects(self) -> int:
        """Defect cells in the triangles."""
        return len(self._taken["defects"])

    @property
    def n_strains(self) -> int:
        """Strained cells in the triangles."""
        return len(self._taken["strains"])

    def update(self, observed: Observed, reference: float) -> None:
        """Add the labels that are not in yet; build anew where one that is in was withdrawn.

        `reference`: E of one host cell in eV, at the mesh of each supercell.
        """
        if not all(
            _begins(taken, labels)
            for taken, labels in (
                (self._taken["defects"], observed.defects),
                (self._taken["strains"], observed.strains),
                (self._taken["constants"], observed.constants),
            )
        ):
            self._clear()
        for label in observed.defects[self.n_defects :]:
            self._add_defect(label, observed, reference)
            self._taken["defects"].append(label)
        for strain in observed.strains[self.n_strains :]:
            self._add_strain(strain, observed)
            self._taken["strains"].append(strain)
        for constant in observed.constants[len(self._taken["constants"]) :]:
            self._add_constants(constant)
            self._taken["constants"].append(constant)

    def _add_defect(self, label: DefectLabel, observed: Observed, reference: float) -> None:
        rows = design(self.basis, label.atoms)
        core_energy, core_forces, _ = core_labels(self.basis, label.atoms)
        count = DefectCell(self.host, self.defect, label.size).references
        energy = label.energy - core_energy - count * reference_energy(observed, label.size, reference)
        self._folds["E"].add((rows.energy - count * self.host_row)[None], np.array([energy]))
        self._folds["F"].add(rows.forces, (label.forces - core_forces).ravel())

    def _add_strain(self, label: StrainLabel, observed: Observed) -> None:
        n = len(label.atoms)
        scale = KINDS["V"].row_scale(n)
        offset = observed.references[(1, 1, 1)][1] if (1, 1, 1) in observed.references else None
        rows = design(self.basis, label.atoms)
        virial, value = rows.virial, label.virial
        if offset is not None:
            # The offset cannot be told from a true pressure where the lattice constant was given: then the rows lose
            # theirs too, and V is learnt from the perfect cell's on (C3).
            value = value - offset
            virial = virial if self.at_rest else virial - self.host_virial
        self._folds["V"].add(scale * virial, scale * value)
        if (inner := shift_scale(self.host)) and label.forces is not None:
            self._folds["V"].add(inner * rows.forces, inner * label.forces.ravel())

    def _add_constants(self, label: ForceConstantLabel) -> None:
        cell = label.cells(self.host)
        for d, forces in zip(cell.displacements, label.forces, strict=True):
            # Both signs of the rows, whether the other sign of the label was bought or follows from symmetry: the basis
            # has every symmetry of the crystal.
            perfect = cell.undisplaced(d)
            A = force_constant_rows(self.basis, perfect, d.site, d.direction, label.step)
            rows = cell.weighted(d, A.reshape(len(perfect), 3, -1)).reshape(A.shape)
            self._folds["FC"].add(rows, cell.weighted(d, cell.column(d, label.step, forces)).ravel())

    def fit(self, weights: dict[str, float], reference: float) -> tuple[Posterior, Surrogate]:
        """The posterior and the surrogate, its energy anchored so that E^h(host cell) = `reference` exactly.

        The anchor moves the one-body columns along the host's composition only, at right angles to the defect's
        excess, so that no fitted row changes (theory.md section 7, 7).
        """
        used = {k: t for k, f in self._folds.items() if weights.get(k, 0.0) > 0 and (t := f.triangle).count}
        posterior = fit(
            used, {k: weights[k] for k in used}, self.basis.prior, self.basis.one_body, regressor=self.regressor
        )
        c = posterior.mean.copy()
        S = len(self.basis.species)
        n_host = np.array([self.host.symbols.count(s) for s in self.basis.species], float)
        excess = self.defect.excess(self.host)
        dn = np.array([excess.get(s, 0) for s in self.basis.species], float)
        if self.host.elemental:
            dn[self.basis.species.index(self.host.species[0])] = 0.0  # taken out of the rows with the references
        free = n_host - (dn * (n_host @ dn) / (dn @ dn) if dn.any() else 0.0)
        c[-S:] += free * (reference - float(self.host_row @ c)) / float(n_host @ free)
        return posterior, Surrogate(self.basis, c)


def _begins(taken: Sequence[Label], labels: Sequence[Label]) -> bool:
    """Whether `labels` begins with the labels that were taken."""
    return len(taken) <= len(labels) and all(a is b for a, b in zip(taken, labels, strict=False))


def reference_energy(observed: Observed, size: Size, default: float) -> float:
    """E of one host cell (eV) at the mesh of supercell `size`, where its own reference was bought (C2)."""
    if size in observed.references and size != (1, 1, 1):
        return observed.references[size][0]
    return default
