"""The campaign file: what loads, what is refused and how, and the template."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farfield.errors import ConfigError, CrystalError, FarfieldError
from farfield.service.campaign.config import CampaignConfig


def write(folder: Path, text: str) -> Path:
    path = folder / "campaign.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_a_campaign(tmp_path: Path) -> None:
    config = CampaignConfig.load(write(tmp_path, ""))
    assert config.make_host().species == ("Cu",)
    assert config.folder == tmp_path / "runs" / "campaign"


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[target]\ntol_gea = 0.1", "target.tol_gea", "did you mean target.tol_geo?"),
        ("[campaign]\nseed = 9223372036854775808", "campaign.seed", "less than 9223372036854775808"),
        ("[defect]\nposition = 'octahedral'", "defect.position", "is for interstitials"),
        ("[oracle]\nparameters = { sigma = nan }", "oracle.parameters", "finite numbers"),
        ("[oracle]\nparameters = { day = 1979-05-27 }", "oracle.parameters", "no dates"),
        ("[target]\nseed = 1", "target.seed", "did you mean campaign.seed?"),
        ("[targt]\nsize = 4", "targt", "did you mean target?"),
        ("[target]\ntol_geo = -0.1", "target.tol_geo", "greater than 0"),
        ("[target]\ntol_energy = 0", "target.tol_energy", "greater than 0"),
        ("[target]\ntol_energy = nan", "target.tol_energy", "finite"),
        ("[target]\nsize = 'big'", "target.size", "integer"),
        ("[defect]\ncharge = 1", "defect.charge", "charge = 0"),
        ("[defect]\nkind = 'dislocation'", "defect.kind", "vacancy"),
        ("[campaign]\nname = '../elsewhere'", "campaign.name", "letters"),
        ("host = 5", "host", "table"),
        ("[defect]\nkind = 'substitution'\nspecies = 'Ni'", "references.Ni", "references.Ni"),
        ("[references]\nNi = 0.0", "references.Ni", "use Cu"),
        ("[surrogate]\nlevel = 3\nmax_level = 1", "surrogate.max_level", "mend one of them"),
        ("[budget]\ncalls = 0", "budget.calls", "greater than or equal to 1"),
    ],
)
def test_a_fault_is_one_line_with_its_key(tmp_path: Path, text: str, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as fault:
        CampaignConfig.load(write(tmp_path, text))
    assert fault.value.key == key
    assert says in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("text", ["[host]\nspecies = ['Xx']", "[host]\nlattice = 'hpc'", "[defect]\nsite = 9"])
def test_what_is_no_crystal_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CrystalError):
        CampaignConfig.load(write(tmp_path, text))


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml; make one with `farfield init`"):
        CampaignConfig.load(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        CampaignConfig.load(tmp_path)
    with pytest.raises(ConfigError, match="line 1"):
        CampaignConfig.load(write(tmp_path, "a = = 1"))


def test_paths_count_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARFIELD_DATABASE", raising=False)
    config = CampaignConfig.load(write(tmp_path, '[run]\nfolder = "out"\n[database]\nurl = "sqlite:///data/x.db"'))
    assert config.folder == tmp_path / "out"
    assert config.database_url == f"sqlite:///{tmp_path}/data/x.db"


def test_the_database_comes_from_file_then_environment_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "")
    monkeypatch.setenv("FARFIELD_DATABASE", "postgresql+psycopg://u:secret@h/d")
    assert CampaignConfig.load(path).database_url == "postgresql+psycopg://u:secret@h/d"
    monkeypatch.delenv("FARFIELD_DATABASE")
    assert CampaignConfig.load(path).database_url == f"sqlite:///{tmp_path}/runs/campaign/campaign.db"


def test_the_stored_form_holds_no_password_and_reads_back(tmp_path: Path) -> None:
    config = CampaignConfig.load(write(tmp_path, '[database]\nurl = "postgresql+psycopg://u:secret@h/d"'))
    assert "secret" not in config.to_json()
    assert CampaignConfig.from_json(config.to_json(), base=tmp_path).to_json() == config.to_json()
    assert config.changed_from(CampaignConfig.from_json(config.to_json())) == []


def test_only_what_decides_nothing_may_change_on_resume() -> None:
    stored = CampaignConfig.from_mapping({})
    more = CampaignConfig.from_mapping({"budget": {"calls": 9}, "cluster": {"workers": 7}, "oracle": {"wall_time": 5}})
    assert more.changed_from(stored) == []
    other = CampaignConfig.from_mapping({"target": {"size": 9}, "campaign": {"seed": 4}})
    assert other.changed_from(stored) == ["campaign.seed", "target.size"]


def test_the_template_says_every_key_once_and_loads() -> None:
    flags = {
        "defect.kind": "interstitial",
        "defect.position": [0.5, 0.5, 0.5],
        "oracle.parameters": {"a": 1, "b c": ""},
    }
    text = CampaignConfig.template(flags)
    config = CampaignConfig.from_mapping(tomllib.loads(text))
    assert config.defect.position == (0.5, 0.5, 0.5)
    assert config.oracle.parameters == {"a": 1, "b c": ""}
    for name, field in CampaignConfig.model_fields.items():
        assert f"[{name}]" in text
        for key in getattr(field.annotation, "model_fields", {}):
            assert sum(line.removeprefix("# ").startswith(f"{key} =") for line in text.splitlines()) >= 1


@given(st.text(max_size=30), st.text(max_size=30), st.one_of(st.none(), st.integers(), st.floats(), st.text()))
def test_no_file_content_gives_a_traceback(section: str, key: str, value: object) -> None:
    message = ""
    try:
        CampaignConfig.from_mapping({section: {key: value}})
    except FarfieldError as fault:
        message = str(fault)
    assert "\n" not in message


@given(st.sampled_from(["campaign.name", "defect.species", "defect.position", "oracle.name", "run.folder"]), st.text())
def test_strings_survive_the_template(key: str, value: str) -> None:
    try:
        text = CampaignConfig.template({key: value})
    except FarfieldError:
        return
    section, name = key.split(".")
    read = CampaignConfig.from_mapping(tomllib.loads(text)).model_dump()
    assert read[section][name] == value
    json.dumps(read)
