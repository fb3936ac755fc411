"""The problem a campaign file poses: host, defect, target cell, basis ladder, constants of foreign species."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from farfield.errors import ConfigError, FitError
from farfield.service.campaign import chemistry
from farfield.service.campaign.config import CampaignConfig
from farfield.service.cells import Defect, DefectCell, Host, Size, first_rung
from farfield.service.cells.description import described_host
from farfield.service.cells.host import Rows
from farfield.service.cells.ladder import even_cell, reaches
from farfield.service.surrogate import CORE, LEVELS, Basis, Regressor, named_regressor, neighbours

__all__ = ["Problem"]

NEARER = 0.9
"""The core acts below this share of the unrelaxed defect's shortest pair, so that rattled cells are clear of it."""


FC_REACH = {False: 0.9, True: 1.0}


@dataclass(frozen=True)
class Problem:
    """Everything that follows from the config, a lattice constant `a` (Å; None: the first guess), and the shape of the
    cell and sites where symmetry leaves them free (None: as the config has them). `edge`: conventional cells per edge
    of the target, where it was enlarged (C13). `phases`: (species, eV per atom) of reference phases that were bought.
    """

    config: CampaignConfig
    a: float | None = None
    shape: Rows | None = None
    sites: Rows | None = None
    edge: int | None = None
    phases: tuple[tuple[str, float], ...] = ()

    @cached_property
    def host(self) -> Host:
        """The host at lattice constant `a`, in the `shape` and with the `sites` that the oracle gave it."""
        return described_host(self.config.host.model_dump(), (self.a, self.shape, self.sites))

    @cached_property
    def defect(self) -> Defect:
        """The defect."""
        return self.config.make_defect(self.host)

    @cached_property
    def target(self) -> DefectCell:
        """The target cell."""
        return self.target_of(self.edge or self.config.target.size)

    def target_of(self, edge: int) -> DefectCell:
        """The target cell with `edge` conventional cells per edge."""
        return DefectCell(self.host, self.defect, even_cell(self.host, edge))

    def cell(self, size: Size) -> DefectCell:
        """The defect in a supercell of `size`."""
        return DefectCell(self.host, self.defect, size)

    def basis(self, level: int) -> Basis:
        """The surrogate's basis at `level` of the ladder, or of the config's own degrees plus what `level` adds."""
        s = self.config.surrogate
        cutoff = None if s.cutoff == "auto" else float(s.cutoff)
        species = self.defect.species(self.host)
        host = self.host
        basis = Basis.default(species, host.nearest, level, cutoff, lattice=host.lattice, bond=host.bond)
        basis = replace(basis, core=self._core(basis))
        if s.degrees is None:
            return basis
        grown = tuple(d + 2 * (level - self.first_level) for d in s.degrees)
        return replace(basis, degrees=(grown[0], grown[1], grown[2]))

    def _core(self, basis: Basis) -> float:
        """The share of r0 below which the surrogate's fixed core acts: nearer than any pair of the unrelaxed defect."""
        n = 2 if self.defect.extent(self.host) < 1e-9 else max(self.first_size_of_extent)
        cell = DefectCell(self.host, self.defect, (n, n, n))
        found = neighbours(basis, cell.atoms(cell.start(0.0, np.random.default_rng(0))))
        i = np.repeat(found.species, np.diff(found.ptr))
        r0 = basis.distances[i, found.species[found.j]]
        closest = (np.linalg.norm(found.vectors, axis=1) / r0).min()
        return min(CORE, float(np.round(NEARER * closest, 3)))

    @cached_property
    def first_size_of_extent(self) -> Size:
        """The smallest cell that holds the whole defect."""
        size = first_rung(self.host, self.defect.extent(self.host) + 0.5 * self.host.nearest)
        return max(size[0], 2), max(size[1], 2), max(size[2], 2)

    @cached_property
    def regressor(self) -> Regressor | None:
        """What fits in place of the evidence fit. Raises ConfigError for a name that is no regressor."""
        name = self.config.surrogate.regressor
        try:
            return None if name is None else named_regressor(name)
        except FitError as fault:
            raise ConfigError(f"surrogate.regressor: {fault}", key="surrogate.regressor") from fault

    @cached_property
    def first_level(self) -> int:
        """The level of the first basis."""
        return self.config.surrogate.first_level(len(self.defect.species(self.host)))

    @property
    def top_level(self) -> int:
        """The largest basis level allowed."""
        return min(self.config.surrogate.max_level, len(LEVELS) - 1)

    @cached_property
    def first_size(self) -> Size:
        """L0: the smallest complete rung with half width of at least 0.65 of the surrogate's cut-off (C7), which holds
        the whole defect."""
        least = 0.65 * self.basis(self.first_level).cutoff
        if (extent := self.defect.extent(self.host)) > 0:
            least = max(least, extent + 0.5 * self.host.nearest)
        size = first_rung(self.host, least)
        return (max(size[0], 2), max(size[1], 2), max(size[2], 2))

    def fc_size(self, *, nondiagonal: bool) -> Size:
        """The supercell of the first force constants: the smallest complete rung whose half width reaches the cut-off
        times `FC_REACH`, by whether they come from non-diagonal cells.

        The surrogate's own force constants reach twice the cut-off. In the supercell itself that is dear; measured
        with a noisy oracle (Cu, EMT with 0.003 eV/Å of noise): eta 0.41 Å on the first rung where smaller cells gave
        1.55 to 3.0 Å.
        """
        return first_rung(self.host, FC_REACH[nondiagonal] * self.basis(self.first_level).cutoff)

    @property
    def constant(self) -> float:
        """sum_s dN_s mu_s in eV over the species whose mu is a constant on both sides (decisions C9).

        A reference phase that has not been bought yet counts as 0. Raises ConfigError for a missing reference. An
        elemental host's own species is left out: its mu is E(host) per atom on each side.
        """
        return chemistry.constant(self.host, self.defect, self.potentials)

    @property
    def potentials(self) -> dict[str, float]:
        """mu of each species that has a reference, eV."""
        bought = dict(self.phases)
        given = self.config.references
        return {s: float(v) if isinstance(v, float) else bought.get(s, 0.0) for s, v in given.items()}

    def check(self) -> None:
        """Raise ConfigError or CrystalError now for what would fail later: references, target against the ladder."""
        _ = self.defect, self.constant, self.regressor
        if reaches(self.first_size, self.target.size):
            largest = max(self.first_size)
            raise ConfigError(
                f"target.size {self.config.target.size} leaves no room for the ladder, which starts at {largest}; "
                f"use at least {largest + 2}",
                key="target.size",
            )
