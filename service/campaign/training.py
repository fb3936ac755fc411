"""The training set: rows of the observed labels, one triangular factor per kind, and the fit (decisions C2, C8).

Row scalings inside the factors are fixed (E 1, F 1, V 1/N, FC 1); weights between kinds enter only when the triangles
are stacked, so a refit with other weights costs the same at any history.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.observation import KINDS
from farfield.service.campaign.observed import DefectLabel, ForceConstantLabel, Observed, StrainLabel
from farfield.service.cells import Defect, DefectCell, ForceConstantCell, Host, Size
from farfield.service.surrogate import Basis, Posterior, Surrogate, Triangle, core_labels, design, fit

__all__ = ["TrainingSet"]

Array = NDArray[np.float64]


class TrainingSet:
    """Rows for one basis, grown in the order of the record."""

    def __init__(self, basis: Basis, host: Host, defect: Defect) -> None:
        self.basis, self.host, self.defect = basis, host, defect
        self.triangles = {kind: Triangle(basis.size) for kind in KINDS}
        self.host_row: Array = design(basis, host.atoms()).energy
        self._taken = {"defects": 0, "strains": 0, "constants": 0}
        self.n_defects = 0
        self.n_strains = 0

    def update(self, observed: Observed, reference: float) -> None:
        """Add the labels that are not in yet. `reference`: E of one host cell in eV, at the mesh of each supercell."""
        for label in observed.defects[self._taken["defects"] :]:
            self._add_defect(label, observed, reference)
        for strain in observed.strains[self._taken["strains"] :]:
            self._add_strain(strain, observed)
        for constant in observed.constants[self._taken["constants"] :]:
            self._add_constants(constant)
        self._taken = {
            "defects": len(observed.defects),
            "strains": len(observed.strains),
            "constants": len(observed.constants),
        }

    def _add_defect(self, label: DefectLabel, observed: Observed, reference: float) -> None:
        rows = design(self.basis, label.atoms)
        core_energy, core_forces, _ = core_labels(self.basis, label.atoms)
        count = DefectCell(self.host, self.defect, label.size).references
        energy = label.energy - core_energy - count * reference_energy(observed, label.size, reference)
        self.triangles["E"].add((rows.energy - count * self.host_row)[None], np.array([energy]))
        self.triangles["F"].add(rows.forces, (label.forces - core_forces).ravel())
        self.n_defects += 1

    def _add_strain(self, label: StrainLabel, observed: Observed) -> None:
        n = len(label.atoms)
        scale = KINDS["V"].row_scale(n)
        offset = observed.references[(1, 1, 1)][1] if (1, 1, 1) in observed.references else None
        pulay = offset if offset is not None else np.zeros(6)
        rows = design(self.basis, label.atoms)
        self.triangles["V"].add(scale * rows.virial, scale * (label.virial - pulay))
        self.n_strains += 1

    def _add_constants(self, label: ForceConstantLabel) -> None:
        cell = ForceConstantCell(self.host, label.size)
        for d, forces in zip(cell.displacements, label.forces, strict=True):
            blocks = []
            for sign in cell.signs(d):
                rows = design(self.basis, cell.displaced(d, sign * label.step))
                blocks.append(rows.forces.reshape(cell.natoms, 3, -1))
            A = cell.column(d, label.step, blocks).reshape(3 * cell.natoms, -1)
            self.triangles["FC"].add(A, cell.column(d, label.step, forces).ravel())

    def fit(self, weights: dict[str, float], reference: float) -> tuple[Posterior, Surrogate]:
        """The posterior and the surrogate, its energy anchored so that E^h(host cell) = `reference` exactly.

        The anchor moves the one-body columns along the host's composition only, at right angles to the defect's
        excess, so that no fitted row changes (theory.md section 7, 7).
        """
        used = {k: t for k, t in self.triangles.items() if weights.get(k, 0.0) > 0 and t.count}
        posterior = fit(used, {k: weights[k] for k in used}, self.basis.prior, self.basis.one_body)
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


def reference_energy(observed: Observed, size: Size, default: float) -> float:
    """E of one host cell (eV) at the mesh of supercell `size`, where its own reference was bought (C2)."""
    if size in observed.references and size != (1, 1, 1):
        return observed.references[size][0]
    return default
