"""The campaign file: one TOML file, every key checked, units in the descriptions.

Unknown keys are refused with the nearest known one. Relative paths count from the file's folder. Its tables are in
`sections`.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, ValidationError

from farfield.errors import ConfigError
from farfield.service.campaign import structures, wording
from farfield.service.campaign.cluster import ClusterSection
from farfield.service.campaign.sections import (
    BudgetSection,
    CampaignSection,
    CostSection,
    DatabaseSection,
    DatasetSection,
    DecisionsSection,
    DefectSection,
    HostSection,
    OracleSection,
    PhaseSection,
    RunSection,
    Section,
    SurrogateSection,
    TargetSection,
)

if TYPE_CHECKING:
    from farfield.service.cells import Defect, Host

__all__ = [
    "BudgetSection",
    "CampaignConfig",
    "CampaignSection",
    "ClusterSection",
    "CostSection",
    "DatabaseSection",
    "DatasetSection",
    "DecisionsSection",
    "DefectSection",
    "HostSection",
    "OracleSection",
    "RunSection",
    "SurrogateSection",
    "TargetSection",
]

MAY_CHANGE = (
    "budget",
    "cluster",
    "database",
    "decisions.after",
    "decisions.every",
    "run",
    "oracle.wall_time",
    "oracle.memory",
    "surrogate.max_level",
)
"""What a resumed campaign may change: nothing here alters a decision's inputs.

The largest basis may change because it matters only where it would grow beyond it, and there the campaign has ended.
"""


class CampaignConfig(Section):
    """A whole campaign file. Make one with `load`, `from_mapping` or `from_json`; all raise ConfigError."""

    campaign: CampaignSection = CampaignSection()
    host: HostSection = HostSection()
    defect: DefectSection = DefectSection()
    target: TargetSection = TargetSection()
    oracle: OracleSection = OracleSection()
    surrogate: SurrogateSection = SurrogateSection()
    references: dict[str, float | PhaseSection] = Field(
        default_factory=dict,
        description='reference phases by species: C = "diamond.cif" (bought from the oracle), or eV per atom, C = -9.1',
    )
    cost: CostSection = CostSection()
    decisions: DecisionsSection = DecisionsSection()
    budget: BudgetSection = BudgetSection()
    cluster: ClusterSection = ClusterSection()
    database: DatabaseSection = DatabaseSection()
    dataset: DatasetSection = DatasetSection()
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
        cls, data: Mapping[str, Any], *, base: Path | None = None, source: str = "campaign", checked: bool = False
    ) -> CampaignConfig:
        """Check nested `data`; relative paths count from `base` (default: the working folder). `checked`: it was when
        it was stored, by rules that may have been milder."""
        try:
            config = cls.model_validate(structures.inlined(data, base or Path.cwd()))
        except ValidationError as fault:
            key, text = wording.explain(fault, cls)
            raise ConfigError(f"{source}: {text}", key=key) from None
        config._base = (base or Path.cwd()).resolve()
        if not checked:
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
        _plausible(host)
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
        self.cluster.check(self.oracle.memory, self.oracle.wall_time)
        level = self.surrogate.first_level(len(defect.species(host)))
        if self.surrogate.max_level < level:
            raise ConfigError(
                f"surrogate.max_level {self.surrogate.max_level} is below surrogate.level {level}; mend "
                "one of them (0 to 6)",
                key="surrogate.max_level",
            )

    def make_host(self) -> Host:
        """The host at its given lattice constant, or at a first guess where the oracle decides."""
        return self.host.make()

    def make_defect(self, host: Host) -> Defect:
        """The defect in `host`."""
        return self.defect.make(host)

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


BONDS = 0.6, 2.5
"""Nearest neighbours, in sums of covalent radii (Cordero et al. 2008): below and above them the unit is wrong."""


def _plausible(host: Host) -> None:
    """Raise ConfigError for a crystal far too dense or too thin: a lattice constant in nm or in Bohr."""
    from ase.data import atomic_numbers, covalent_radii

    bond = 2 * sum(float(covalent_radii[atomic_numbers[s]]) for s in host.species) / len(host.species)
    if not BONDS[0] * bond <= host.nearest <= BONDS[1] * bond:
        raise ConfigError(
            f"host.lattice_constant {host.a:g} puts nearest neighbours {host.nearest:.3g} Å apart, where a bond of "
            f"{'-'.join(sorted(set(host.species)))} is about {bond:.2g} Å; give it in Å",
            key="host.lattice_constant",
        )


def _absolute(url: str, base: Path) -> str:
    """`url` with a relative SQLite path (three slashes) counted from `base`."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url in (prefix, prefix + ":memory:"):
        return url
    return prefix + str((base / url.removeprefix(prefix)).resolve())
