"""The tables of the campaign file: every key with its unit, bounds and description.

What a key means to people is written once, in its description: the commented template prints it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from farfield.service.cells import Defect, Host

__all__ = [
    "BudgetSection",
    "CampaignSection",
    "CostSection",
    "DatabaseSection",
    "DatasetSection",
    "DecisionsSection",
    "DefectSection",
    "HostSection",
    "OracleSection",
    "PhaseSection",
    "RunSection",
    "Section",
    "SurrogateSection",
    "TargetSection",
    "listed",
]

Positive = Annotated[float, Field(gt=0)]
Fractional = tuple[float, float, float]
Placed = tuple[str, float, float, float]
AUTO_LEVEL, MANY_SPECIES_LEVEL = 5, 2
EXTENDED = ("dislocation", "surface", "grain boundary", "stacking fault", "interface", "crack")
"""Not treated (decisions C12)."""


class Section(BaseModel):
    """A table of the file: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CampaignSection(Section):
    """Name and seed."""

    name: str = Field(default="campaign", description="names the campaign in the database: letters, digits, . _ -")
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="the one seed; the same seed and record give the same proposals"
    )

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not name or len(name) > 100 or not name[0].isalnum() or any(not (c.isalnum() or c in "._-") for c in name):
            raise ValueError("use letters, digits, '.', '_' and '-', at most 100, a letter or digit first")
        return name


def listed(value: Any) -> Any:
    """One text where a list of texts is asked."""
    return (value,) if isinstance(value, str) else value


class HostSection(Section):
    """The perfect crystal."""

    species: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=("Cu",), min_length=1, description="one element; two for rocksalt and b2"
    )
    lattice: str = Field(default="fcc", description="fcc, bcc, hcp, diamond, zincblende, rocksalt or b2")
    lattice_constant: Positive | Literal["oracle", "given"] = Field(
        default="oracle",
        description='"oracle": all that symmetry leaves free, from 7 points each; a number, Å; "given": as in the file',
    )
    c_over_a: Positive | None = Field(default=None, description="c/a of hcp; a first guess where the oracle decides")
    file: str | None = Field(default=None, description="a crystal of one's own, any cell ASE reads, e.g. Mg2Si.cif")
    cell: tuple[Fractional, Fractional, Fractional] | None = Field(
        default=None, description="its conventional cell, three vectors in Å; read from the file"
    )
    sites: tuple[Placed, ...] | None = Field(
        default=None, description='its sites, [["Mg", x, y, z], ...] in units of the cell; read from the file'
    )
    polar: bool | None = Field(default=None, description="false silences the warning about polar hosts")

    @model_validator(mode="after")
    def _one_crystal(self) -> HostSection:
        if (self.cell is None) != (self.sites is None):
            raise ValueError("host.cell and host.sites go together; give both or a host.file")
        if self.cell is None and self.lattice_constant == "given":
            raise ValueError('lattice_constant = "given" is for a host of one\'s own; give a number in Å, or "oracle"')
        if self.cell is not None and isinstance(self.lattice_constant, float):
            raise ValueError('the lattice_constant of a host of one\'s own is "oracle" or "given", as in its cell')
        return self

    def make(self, a: float | None = None) -> Host:
        """The host with lattice constant `a` (Å); None: as given, or a first guess. Raises CrystalError."""
        from farfield.service.cells.description import described_host

        return described_host(self.model_dump(), (a, None, None))


class PhaseSection(Section):
    """A reference phase of one species, from a file: its cell is stored."""

    file: str | None = Field(default=None, description="any file ASE reads")
    cell: tuple[Fractional, Fractional, Fractional] = Field(description="Å")
    sites: tuple[Placed, ...] = Field(min_length=1, description='[["C", x, y, z], ...] in units of the cell')


class DefectSection(Section):
    """How the host is changed."""

    kind: Literal["vacancy", "interstitial", "substitution", "complex"] = Field(
        default="vacancy", description="vacancy, interstitial, substitution, or complex (the lists below, or a file)"
    )
    file: str | None = Field(
        default=None, description="a supercell of the host that holds the defect, any file ASE reads; kind complex"
    )
    removed: tuple[tuple[int, int, int, int], ...] = Field(
        default=(), description="complex: sites taken out, [[site, i, j, k], ...] in conventional cell (i, j, k)"
    )
    changed: tuple[tuple[int, int, int, int, str], ...] = Field(
        default=(), description='complex: sites that change their element, [[site, i, j, k, "C"], ...]'
    )
    added: tuple[Placed, ...] = Field(
        default=(), description='complex: atoms put in, [["C", x, y, z], ...] in conventional cells'
    )
    species: str | None = Field(
        default=None, description="element put in (substitution; interstitial: default the host's)"
    )
    site: int = Field(default=0, ge=0, description="index in the conventional cell (vacancy, substitution, dumbbell)")
    position: Fractional | str | None = Field(
        default=None,
        description="interstitial: octahedral, tetrahedral, dumbbell-100 (110, 111) or [x, y, z] in conventional cells",
    )
    charge: int = Field(default=0, description="charged defects are refused: only 0")

    @field_validator("kind", mode="before")
    @classmethod
    def _treated(cls, kind: Any) -> Any:
        if str(kind).replace("-", " ").replace("_", " ") in EXTENDED:
            raise ValueError(
                f"a {kind} is no point defect: its far field decays too slowly for the estimates, so it is refused; "
                "use vacancy, interstitial, substitution or complex"
            )
        return kind

    @property
    def words(self) -> str:
        """The defect in a few words."""
        if self.kind != "complex":
            return self.kind
        return f"{len(self.removed)} vacant, {len(self.added)} extra, {len(self.changed)} substituted"

    def make(self, host: Host) -> Defect:
        """The defect in `host`. Raises CrystalError for what does not fit."""
        from farfield.service.cells.description import described_defect

        return described_defect(self.model_dump(), host)

    @field_validator("charge")
    @classmethod
    def _neutral(cls, charge: int) -> int:
        if charge:
            raise ValueError(
                "charged defects are not treated (potential alignment, a 1/L far field: the estimate does not hold); "
                "set charge = 0"
            )
        return charge


class TargetSection(Section):
    """The large cell in which the defect must be right."""

    size: int = Field(default=6, ge=2, le=40, description="conventional cells per edge; never given to the oracle")
    tol_geo: Positive = Field(default=0.02, description="tolerance of the geometry, Å (norm of the strain error)")
    tol_energy: Positive = Field(default=0.01, description="tolerance of the formation energy, eV")


class OracleSection(Section):
    """The reference method."""

    name: str = Field(
        default="emt", min_length=1, description="see `farfield oracle list`; ase takes any ASE calculator"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="passed to the oracle")
    wall_time: Positive = Field(default=3600.0, description="limit of one call, s; twice that when it is tried again")
    memory: Positive = Field(default=4000.0, description="limit of one call with its children, MB; likewise")

    @field_validator("parameters")
    @classmethod
    def _plain(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(parameters, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("use texts, finite numbers, true, false, lists and tables; no dates, nan or inf") from None
        return parameters


class SurrogateSection(Section):
    """The linear ACE basis."""

    cutoff: Positive | Literal["auto"] = Field(default="auto", description='"auto" or a radius, Å')
    level: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description='size of the first basis, level 0 to 6; "auto": 5 for one species, else 2',
    )
    max_level: int = Field(default=6, ge=0, description="the basis may grow up to this level")
    degrees: tuple[int, int, int] | None = Field(
        default=None, description="total degrees of the pair, two- and three-neighbour terms, in place of the levels"
    )
    regressor: str | None = Field(
        default=None, description="dotted name of a scikit-learn linear regressor in place of the evidence fit"
    )

    @field_validator("degrees")
    @classmethod
    def _degrees(cls, degrees: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if degrees is not None and (degrees[0] < 1 or min(degrees) < 0 or max(degrees) > 24):
            raise ValueError("degrees lie between 0 and 24, the first at least 1, e.g. [10, 10, 8]")
        return degrees

    def first_level(self, species: int) -> int:
        """The level of the first basis for so many species.

        "auto" is the largest that is cheap beside the cells. Measured on vacancies of W, Cu and Fe and on Si with an
        interstitial, levels 2 to 5: level 5 (249 functions) holds 5 or 10 mÅ at the least cost or within a rung of it,
        level 2 costs up to 7 times more (docs/cost.md). Two species have 638 functions at level 2, 1620 at 4.
        """
        if self.level != "auto":
            return self.level
        return AUTO_LEVEL if species == 1 else MANY_SPECIES_LEVEL


class CostSection(Section):
    """What a calculation is expected to cost before it is bought."""

    model: Literal["power", "fitted"] = Field(
        default="power",
        description="power: core-seconds grow as (number of atoms)^exponent; fitted: from the times of the calls",
    )
    exponent: float = Field(default=2.5, ge=0, le=6, description="1 for a force field, 2.5 for plane waves")


class DecisionsSection(Section):
    """When the next decision is made."""

    rounds: Literal["barrier", "continuous"] = Field(
        default="barrier",
        description="barrier: when every call of the last has ended; continuous: after a count or an interval",
    )
    after: int = Field(
        default=1, ge=1, description="continuous: once so many calls came, its verification call among them"
    )
    every: Positive = Field(default=60.0, description="continuous: or so many minutes after the last, once it came")
    speculation: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="continuous: share of the cost spent on calls ahead of the loop, where they teach enough",
    )

    @model_validator(mode="after")
    def _only_continuous(self) -> DecisionsSection:
        if self.speculation and self.rounds != "continuous":
            raise ValueError('decisions.speculation is for decisions.rounds = "continuous"; set one of the two')
        return self


class BudgetSection(Section):
    """Limits; a spent one ends the campaign with its best estimate, exit code 3."""

    core_hours: Positive | None = Field(default=None, description="oracle core-hours")
    calls: int | None = Field(default=None, ge=1, description="oracle calls")
    wall_clock: Positive | None = Field(default=None, description="hours since this `farfield run` began")


class DatabaseSection(Section):
    """The record."""

    url: str | None = Field(
        default=None, description="SQLAlchemy URL; else $FARFIELD_DATABASE, else the file campaign.db in the run folder"
    )
    patience: Positive = Field(default=30.0, description="how long a database that is away is waited for, minutes")
    heartbeat: float = Field(
        default=15.0, gt=0, le=15, description="seconds between signs of life; a worker that misses four is lost"
    )


class DatasetSection(Section):
    """What is bought for the trainers that will read the labels, and for nothing else."""

    isolated_atoms: bool = Field(
        default=False, description="also the energy of one atom of each species alone in a box of 15 Å (MACE's E0s)"
    )


class RunSection(Section):
    """Where files go."""

    folder: str | None = Field(default=None, description="run folder; default runs/<name> beside this file")
