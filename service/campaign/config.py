"""The campaign file: one TOML file, every key checked, units in the descriptions.

Unknown keys are refused with the nearest known one. Relative paths count from the file's folder. What a section
means to people is written once, in the field descriptions below: `CampaignConfig.template` prints them as comments.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from farfield.errors import ConfigError
from farfield.service.campaign import wording

if TYPE_CHECKING:
    from farfield.service.cells import Defect, Host

__all__ = [
    "BudgetSection",
    "CampaignConfig",
    "CampaignSection",
    "ClusterSection",
    "CostSection",
    "DatabaseSection",
    "DefectSection",
    "HostSection",
    "OracleSection",
    "RunSection",
    "SurrogateSection",
    "TargetSection",
]

Positive = Annotated[float, Field(gt=0)]
Fractional = tuple[float, float, float]
MAY_CHANGE = ("budget", "cluster", "database", "run", "oracle.wall_time", "oracle.memory")
"""What a resumed campaign may change: nothing here alters a decision's inputs."""


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


class HostSection(Section):
    """The perfect crystal."""

    species: tuple[str, ...] = Field(default=("Cu",), min_length=1, description="one element; two for rocksalt and b2")
    lattice: str = Field(default="fcc", description="fcc, bcc, diamond, zincblende, rocksalt or b2")
    lattice_constant: Positive | Literal["oracle"] = Field(
        default="oracle", description='"oracle": from a 7-point equation of state; or a number, Å'
    )
    polar: bool | None = Field(default=None, description="false silences the warning about polar hosts")


class DefectSection(Section):
    """How the host is changed."""

    kind: Literal["vacancy", "interstitial", "substitution"] = Field(
        default="vacancy", description="vacancy, interstitial or substitution"
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
    wall_time: Positive = Field(default=3600.0, description="limit of one call, s")
    memory: Positive = Field(default=4000.0, description="limit of one call with its children, MB")

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
    level: int = Field(default=2, ge=0, description="size of the first basis, on the list of levels")
    max_level: int = Field(default=5, ge=0, description="the basis may grow up to this level")
    degrees: tuple[int, int, int] | None = Field(
        default=None, description="total degrees of the pair, two- and three-neighbour terms, in place of the levels"
    )

    @field_validator("degrees")
    @classmethod
    def _degrees(cls, degrees: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if degrees is not None and (degrees[0] < 1 or min(degrees) < 0 or max(degrees) > 24):
            raise ValueError("degrees lie between 0 and 24, the first at least 1, e.g. [10, 10, 8]")
        return degrees


class CostSection(Section):
    """What a calculation is expected to cost before it is bought."""

    model: Literal["power"] = Field(
        default="power", description="power: core-seconds grow as (number of atoms)^exponent"
    )
    exponent: float = Field(default=2.5, ge=0, le=6, description="1 for a force field, 2.5 for plane waves")


class BudgetSection(Section):
    """Limits; a spent one ends the campaign with its best estimate, exit code 3."""

    core_hours: Positive | None = Field(default=None, description="oracle core-hours")
    calls: int | None = Field(default=None, ge=1, description="oracle calls")
    wall_clock: Positive | None = Field(default=None, description="hours since this `farfield run` began")


class ClusterSection(Section):
    """Where oracle calls run."""

    workers: int = Field(default=2, ge=1, le=256, description="worker processes of a local cluster, one thread each")
    scheduler: str | None = Field(default=None, description="address of a running Dask scheduler, e.g. tls://host:8786")
    insecure: bool = Field(default=False, description="allow plain tcp to another host")


class DatabaseSection(Section):
    """The record."""

    url: str | None = Field(
        default=None, description="SQLAlchemy URL; else $FARFIELD_DATABASE, else the file campaign.db in the run folder"
    )
    patience: Positive = Field(default=30.0, description="how long a worker retries when the database is away, minutes")


class RunSection(Section):
    """Where files go."""

    folder: str | None = Field(default=None, description="run folder; default runs/<name> beside this file")


class CampaignConfig(Section):
    """A whole campaign file. Make one with `load`, `from_mapping` or `from_json`; all raise ConfigError."""

    campaign: CampaignSection = CampaignSection()
    host: HostSection = HostSection()
    defect: DefectSection = DefectSection()
    target: TargetSection = TargetSection()
    oracle: OracleSection = OracleSection()
    surrogate: SurrogateSection = SurrogateSection()
    references: dict[str, float] = Field(
        default_factory=dict, description="energy per atom of a reference phase, eV, by species, e.g. C = -9.1"
    )
    cost: CostSection = CostSection()
    budget: BudgetSection = BudgetSection()
    cluster: ClusterSection = ClusterSection()
    database: DatabaseSection = DatabaseSection()
    run: RunSection = RunSection()
    _base: Path = PrivateAttr(default_factory=Path.cwd)

    @classmethod
    def load(cls, path: str | Path) -> CampaignConfig:
        """Read and check a campaign file. Raises ConfigError, or CrystalError for what is no such crystal."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"no campaign file {path}; make one with `farfield init`") from None
        except IsADirectoryError:
            raise ConfigError(f"{path} is a folder; name the campaign file in it") from None
        except (OSError, UnicodeDecodeError) as fault:
            raise ConfigError(f"cannot read {path}: {fault}; give a readable text file") from None
        except tomllib.TOMLDecodeError as fault:
            raise ConfigError(f"{path} is not TOML: {fault}; mend that line") from None
        return cls.from_mapping(data, base=path.resolve().parent, source=path.name)

    @classmethod
    def from_mapping(
        cls, data: Mapping[str, Any], *, base: Path | None = None, source: str = "campaign"
    ) -> CampaignConfig:
        """Check nested `data`; relative paths count from `base` (default: the working folder)."""
        try:
            config = cls.model_validate(dict(data))
        except ValidationError as fault:
            key, text = wording.explain(fault, cls)
            raise ConfigError(f"{source}: {text}", key=key) from None
        config._base = (base or Path.cwd()).resolve()
        config.check()
        return config

    @classmethod
    def from_json(cls, text: str, *, base: Path | None = None) -> CampaignConfig:
        """A config that `to_json` wrote (the campaign row of the database holds one)."""
        return cls.from_mapping(json.loads(text), base=base, source="stored campaign")

    def to_json(self) -> str:
        """Canonical JSON without the database section (a URL may hold a password)."""
        return json.dumps(self.model_dump(mode="json", exclude={"database"}), sort_keys=True)

    def check(self) -> None:
        """What single keys cannot tell: elements, lattice, defect, references, levels."""
        host = self.make_host()
        defect = self.make_defect(host)
        if self.defect.position is not None and self.defect.kind != "interstitial":
            raise ConfigError(
                f"defect.position is for interstitials, and defect.kind is {self.defect.kind}; mend one of the two",
                key="defect.position",
            )
        own = host.species if host.elemental else ()
        for species in defect.excess(host):
            if species not in own and species not in self.references:
                raise ConfigError(
                    f"the defect changes the number of {species} atoms: give their reference energy per atom (eV) "
                    f"as references.{species}",
                    key=f"references.{species}",
                )
        for species in self.references:
            if species not in defect.species(host):
                raise ConfigError(
                    f"references.{species}: neither host nor defect holds {species}; "
                    f"use {', '.join(defect.species(host))}",
                    key=f"references.{species}",
                )
        if self.surrogate.max_level < self.surrogate.level:
            raise ConfigError("surrogate.max_level is below surrogate.level; raise it", key="surrogate.max_level")

    def make_host(self) -> Host:
        """The host at its given lattice constant, or at a first guess where the oracle decides."""
        from farfield.service.cells import Host

        a = self.host.lattice_constant
        return Host.named(self.host.lattice, self.host.species, None if a == "oracle" else a)

    def make_defect(self, host: Host) -> Defect:
        """The defect in `host`."""
        from farfield.service.cells import Defect

        d = self.defect
        return Defect.named(host, d.kind, species=d.species, site=d.site, position=d.position)

    @property
    def base(self) -> Path:
        """The folder that relative paths count from: the campaign file's."""
        return self._base

    @property
    def folder(self) -> Path:
        """The run folder, absolute; it need not exist yet."""
        return (self._base / (self.run.folder or f"runs/{self.campaign.name}")).resolve()

    @property
    def database_url(self) -> str:
        """The file's URL, else $FARFIELD_DATABASE, else SQLite in the run folder; SQLite paths are made absolute."""
        if self.database.url is not None:
            return _absolute(self.database.url, self._base)
        if url := os.environ.get("FARFIELD_DATABASE"):
            return _absolute(url, Path.cwd())
        return f"sqlite:///{self.folder / 'campaign.db'}"

    def with_cluster(self, *, workers: int | None = None, scheduler: str | None = None) -> CampaignConfig:
        """The same config on another cluster, where flags say so."""
        update = {k: v for k, v in (("workers", workers), ("scheduler", scheduler)) if v is not None}
        config = self.model_copy(update={"cluster": self.cluster.model_copy(update=update)})
        config._base = self._base
        return config

    def changed_from(self, stored: CampaignConfig) -> list[str]:
        """Dotted names of keys that differ from `stored` and that a resumed campaign may not change."""
        mine, theirs = wording.flatten(self.model_dump(mode="json")), wording.flatten(stored.model_dump(mode="json"))
        return [
            key
            for key in sorted({*mine, *theirs})
            if mine.get(key) != theirs.get(key) and not any(key == m or key.startswith(m + ".") for m in MAY_CHANGE)
        ]

    @classmethod
    def template(cls, values: Mapping[str, Any] | None = None) -> str:
        """A commented campaign file; `values` maps dotted names (``"target.tol_geo"``) to what differs from defaults.

        The result loads. Raises ConfigError for an unknown name or a wrong value.
        """
        nested: dict[str, Any] = {}
        for name, value in (values or {}).items():
            section, _, key = name.partition(".")
            nested.setdefault(section, {})[key] = value
        config = cls.from_mapping(nested, source="flags")
        return wording.commented(config, {name for name in values or {}})


def _absolute(url: str, base: Path) -> str:
    """`url` with a relative SQLite path (three slashes) counted from `base`."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url in (prefix, prefix + ":memory:"):
        return url
    return prefix + str((base / url.removeprefix(prefix)).resolve())
