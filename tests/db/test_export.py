"""What trainers get: every bit of every label, signs and units as the manifest says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.io import read

from farfield.db import schema
from farfield.db.export import write_extxyz
from farfield.db.query import select_labelled
from farfield.errors import RecordError
from farfield.oracles.observation import Observations


def test_ase_reads_back_every_bit(record, emt_cells, tmp_path: Path) -> None:
    written = write_extxyz(tmp_path / "data.xyz", record.database, campaign="first")
    rows = list(select_labelled(record.database, campaign="first"))
    back = read(written.path, ":")
    assert len(back) == len(rows) == written.structures == 3
    for atoms, row, original in zip(back, rows, emt_cells, strict=True):
        assert atoms.calc is None
        assert (atoms.numbers == original.numbers).all()
        assert atoms.positions.tobytes() == original.positions.tobytes()
        assert atoms.cell.array.tobytes() == original.cell.array.tobytes()
        assert atoms.pbc.all()
        assert (atoms.info["config_type"], atoms.info["farfield_role"]) == ("fc", "force constants")
        assert atoms.info["farfield_calculation"] == row.calculation
        assert (atoms.info["farfield_decision"], atoms.info["farfield_ordinal"]) == (0, row.ordinal)
        assert atoms.info.get("REF_energy") == row.labels.energy
        if row.labels.forces is None:
            assert "REF_forces" not in atoms.arrays
        else:
            assert atoms.arrays["REF_forces"].tobytes() == row.labels.forces.tobytes()
        assert ("REF_virials" in atoms.info) == ("REF_stress" in atoms.info) == (row.labels.virial is not None)


def test_signs_are_those_of_ase_and_of_strain(record, emt_cells, tmp_path: Path) -> None:
    write_extxyz(tmp_path / "data.xyz", record.database, campaign="first")
    first = read(tmp_path / "data.xyz", "0")
    reference = first.copy()
    reference.calc = EMT()
    # ASE shapes nine numbers into 3x3 only for its own keys
    stress, virial = (first.info[name].reshape(3, 3) for name in ("REF_stress", "REF_virials"))
    assert stress == pytest.approx(reference.get_stress(voigt=False), abs=1e-12)
    assert virial == pytest.approx(-first.get_volume() * stress, rel=1e-14)
    h = 1e-5
    energies = []
    for sign in (1, -1):
        strained = reference.copy()
        strain = np.eye(3)
        strain[0, 1] = strain[1, 0] = sign * h / 2
        strain[2, 2] += sign * h
        strained.set_cell(strained.cell.array @ strain, scale_atoms=True)
        strained.calc = EMT()
        energies.append(strained.get_potential_energy())
    slope = (energies[0] - energies[1]) / (2 * h)
    assert -(virial[0, 1] + virial[2, 2]) == pytest.approx(slope, rel=1e-5)


def test_the_manifest_is_true(record, emt_cells, tmp_path: Path) -> None:
    written = write_extxyz(tmp_path / "data.xyz", record.database, campaign="first", kind="E")
    assert written.manifest == tmp_path / "data.manifest.json"
    manifest = json.loads(written.manifest.read_text(encoding="utf-8"))
    stored = record.campaign("first")
    assert manifest["sha256"] == hashlib.sha256(written.path.read_bytes()).hexdigest()
    assert (manifest["structures"], manifest["atoms"], manifest["labels"]) == (2, 8, {"E": 2, "F": 2, "V": 1})
    assert manifest["oracle"] == {"fingerprint": stored.fingerprint, "sha256": stored.fingerprint_hash}
    assert manifest["selection"] == {"campaign": "first", "kind": "E", "doubted": False, "query": ""}
    assert manifest["schema_revision"] == schema.REVISION
    assert set(manifest["units"]) >= {"REF_energy", "REF_forces", "REF_virials", "REF_stress"}
    again = write_extxyz(tmp_path / "again.xyz", record.database, campaign="first", kind="E")
    assert again.path.read_bytes() == written.path.read_bytes()


def test_what_is_kept_out_of_fits_is_left_out(record, claims, session, decide, tmp_path: Path) -> None:
    campaign = record.create_campaign("doubts", {}, {"adapter": "liar"})
    keys = record.store_decision(campaign, decide(0, 3))
    for key in keys:
        attempt = claims.new_attempt(key, campaign, ("E", "F", "V"))
        claims.claim(attempt, session)
        claims.finish(attempt, session, Observations({"E": 3.0, "F": np.zeros((4, 3)), "V": np.ones(6)}), 1.0)
    record.event(campaign, "suspect", "far off", {"calculation": keys[0]})
    record.event(campaign, "withdrawn", "refuted", {"calculation": keys[1]})
    record.event(campaign, "suspect", "far off", {"calculation": keys[2]})
    record.event(campaign, "confirmed", "sound", {"calculation": keys[2]})
    written = write_extxyz(tmp_path / "data.xyz", record.database, campaign="doubts")
    left = [atoms.info["farfield_calculation"] for atoms in read(written.path, index=":")]
    assert left == [keys[2]]
    assert json.loads(written.manifest.read_text(encoding="utf-8"))["withdrawn"] == 2


def test_moments_and_round_numbers_survive(record, claims, session, decide, tmp_path: Path) -> None:
    campaign = record.create_campaign("iron", {}, {"adapter": "spin"})
    decision = decide(0, 1)
    atoms = decision.proposals[0].atoms
    atoms.set_initial_magnetic_moments([2.2, -2.2, 0, 1 / 3])
    atoms.pbc = [True, False, True]
    (key,) = record.store_decision(campaign, decision)
    attempt = claims.new_attempt(key, campaign, ("E", "F", "V"))
    claims.claim(attempt, session)
    claims.finish(attempt, session, Observations({"E": 3.0, "F": np.zeros((4, 3)), "V": np.ones(6)}), 1.0)
    write_extxyz(tmp_path / "data.xyz", record.database, campaign="iron")
    back = read(tmp_path / "data.xyz")
    assert (back.get_initial_magnetic_moments() == [2.2, -2.2, 0, 1 / 3]).all()
    assert isinstance(back.info["REF_energy"], float)
    assert back.info["REF_virials"].dtype == float
    assert list(back.pbc) == [True, False, True]


def test_forces_of_fixed_atoms_are_raw(record, claims, campaign, session, decide, tmp_path: Path) -> None:
    from ase.constraints import FixAtoms

    decision = decide(0, 1)
    decision.proposals[0].atoms.set_constraint(FixAtoms([0, 1]))
    (key,) = record.store_decision(campaign, decision)
    forces = np.arange(12.0).reshape(4, 3) - 5.5
    attempt = claims.new_attempt(key, campaign, ("F",))
    claims.claim(attempt, session)
    claims.finish(attempt, session, Observations({"F": forces}), 1.0)
    write_extxyz(tmp_path / "data.xyz", record.database)
    assert (read(tmp_path / "data.xyz").arrays["REF_forces"] == forces).all()


def test_oracles_are_not_mixed(record, claims, emt_cells, session, decide, answer, tmp_path: Path) -> None:
    other = record.create_campaign("other", {}, {"adapter": "lj"})
    (key,) = record.store_decision(other, decide(0, 1))
    attempt = claims.new_attempt(key, other, ("E",))
    claims.claim(attempt, session)
    claims.finish(attempt, session, answer("E"), 1.0)
    with pytest.raises(RecordError, match="more than one oracle"):
        write_extxyz(tmp_path / "data.xyz", record.database)
    assert list(tmp_path.glob("data*")) == []
    assert write_extxyz(tmp_path / "data.xyz", record.database, campaign="other").structures == 1


def test_a_campaign_that_went_on_with_another_version_is_exported_by_version(
    record, claims, campaign, session, decide, answer, tmp_path: Path
) -> None:
    versions = []
    for number in range(2):
        record.set_oracle(campaign, {"adapter": "emt", "version": number})
        stored = record.campaign("first")
        versions.append(stored.fingerprint_hash)
        (key,) = record.store_decision(campaign, decide(number, 1))
        attempt = claims.new_attempt(key, campaign, ("E",))
        assert claims.claim(attempt, session)
        claims.finish(attempt, session, answer("E"), 1.0)
    path = tmp_path / "data.xyz"
    with pytest.raises(RecordError, match="by fingerprint") as said:
        write_extxyz(path, record.database, campaign="first")
    assert all(v[:12] in str(said.value) for v in versions)
    for v in versions:
        done = write_extxyz(path, record.database, campaign="first", fingerprint=v[:12])
        assert done.structures == 1
        assert json.loads(done.manifest.read_text())["oracle"]["sha256"] == v


def test_nothing_is_said_and_writes_nothing(record, campaign, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="nothing to export"):
        write_extxyz(tmp_path / "data.xyz", record.database, campaign="first")
    with pytest.raises(RecordError, match="--output"):
        write_extxyz(tmp_path / "none" / "data.xyz", record.database, campaign="first")
    assert list(tmp_path.glob("*xyz*")) == []
