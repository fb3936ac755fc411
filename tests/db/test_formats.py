"""Every format is read back by its real reader: each bit of each label, signs and units as the manifest says."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import dpdata
import h5py
import numpy as np
import pyarrow.parquet
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.db import connect
from ase.io import read
from phonopy import Phonopy
from phonopy.file_IO import parse_FORCE_SETS
from phonopy.structure.atoms import PhonopyAtoms
from sqlalchemy import update

from farfield.db import export, schema
from farfield.db.datasets import freeze
from farfield.db.export import Keys, deepmd, flat_arrays, of_dataset, of_selection, scalar_table, write
from farfield.db.export.manifest import hash_of
from farfield.db.query import Labelled, Selection, select_labelled
from farfield.errors import RecordError
from farfield.oracles.observation import Observations, virial_from_stress


@pytest.fixture
def origin(record, emt_cells):
    return of_selection(record.database, Selection(campaign="first"))


@pytest.fixture
def columns(record, claims, session, decide):
    """Force-constant columns of a Cu cell by EMT: one with both steps bought, one whose other side is symmetry's."""
    campaign = record.create_campaign("phonons", {}, {"adapter": "emt", "version": 2})
    host = bulk("Cu", cubic=True)
    h, cells = 0.01, []
    for axis, sign in ((0, 1), (0, -1), (1, 1)):
        cells.append(host.copy())
        cells[-1].positions[0, axis] += sign * h
    decided = decide(0, 3, role="force constants", kinds=("F",), weights={"F": 1.0, "E": 2.0, "FC": 0.03, "V": 0.5})
    for proposal, cell in zip(decided.proposals, cells, strict=True):
        object.__setattr__(proposal, "atoms", cell)
    keys = record.store_decision(campaign, decided)
    forces = []
    for key, cell in zip(keys, cells, strict=True):
        cell.calc = EMT()
        attempt = claims.new_attempt(key, campaign, ("F",))
        claims.claim(attempt, session)
        forces.append(cell.get_forces())
        claims.finish(attempt, session, Observations({"F": forces[-1]}), 1.0)
    fingerprint = record.campaign("phonons").fingerprint_hash
    column = -(forces[0] - forces[1]) / (2 * h)
    parts = [(keys[0], h, np.eye(3)), (keys[1], -h, np.eye(3))]
    record.store_force_constants(host, fingerprint, 0, (1, 0, 0), h, column, parts)
    mirror = np.diag([1.0, -1.0, 1.0])
    parts = [(keys[2], h, np.eye(3)), (keys[2], -h, mirror)]
    record.store_force_constants(host, fingerprint, 0, (0, 1, 0), h, column, parts)
    return keys, host, forces, h


def rows_of(record):
    return list(select_labelled(record.database, campaign="first"))


def test_ase_db(record, origin, tmp_path: Path) -> None:
    done = write(tmp_path / "out.db", record.database, origin, "ase")
    with connect(tmp_path / "out.db") as held:
        back = list(held.select())
        assert held.count(config_type="fc") == 3
    for row, found in zip(rows_of(record), back, strict=True):
        atoms = found.toatoms()
        known = row.labels
        assert atoms.positions.tobytes() == row.structure_atoms().positions.tobytes()
        assert atoms.cell.array.tobytes() == row.structure_atoms().cell.array.tobytes()
        assert atoms.calc.results.get("energy") == known.energy
        assert ("forces" in atoms.calc.results) == (known.forces is not None)
        if known.forces is not None:
            assert found.forces.tobytes() == known.forces.tobytes()
        if known.virial is not None:
            assert virial_from_stress(found.stress, atoms.get_volume()) == pytest.approx(known.virial, rel=1e-14)
        assert found.key_value_pairs["calculation"] == f"key {row.calculation}"
    assert done.structures == 3


@pytest.mark.parametrize("form", ["npz", "hdf5"])
def test_flat_arrays(record, origin, tmp_path: Path, form: str) -> None:
    path = tmp_path / ("out.npz" if form == "npz" else "out.h5")
    write(path, record.database, origin, form)
    with np.load(path) if form == "npz" else h5py.File(path) as held:
        data = {name: held[name][()] for name in held}
        if form == "hdf5":
            assert held["forces"].attrs["units"] == "eV/Å, -dE/dr, raw"
    for i, row in enumerate(rows_of(record)):
        atoms, known = row.structure_atoms(), row.labels
        mine = slice(data["offsets"][i], data["offsets"][i + 1])
        assert (data["numbers"][mine] == atoms.numbers).all()
        assert data["positions"][mine].tobytes() == atoms.positions.tobytes()
        assert data["cells"][i].tobytes() == atoms.cell.array.tobytes()
        assert data["has"][i].tolist() == [x is not None for x in (known.energy, known.forces, known.virial)]
        for name, at, value in (
            ("energies", i, known.energy),
            ("forces", mine, known.forces),
            ("virials", i, known.virial),
        ):
            held_value = np.asarray(data[name][at])
            assert np.isnan(held_value).all() if value is None else (held_value == value).all()
        assert data["calculations"][i].decode() == row.calculation
    assert data["offsets"][-1] == len(data["numbers"])


def test_parquet(record, origin, tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", record.database, origin, "parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.field("fmax").metadata[b"units"].decode() == "eV/Å, largest force"
    for row, found in zip(rows_of(record), table.to_pylist(), strict=True):
        assert (found["calculation"], found["role"], found["decision"]) == (row.calculation, row.role, row.decision)
        assert found["energy"] == row.labels.energy
        largest = None if row.labels.forces is None else np.linalg.norm(row.labels.forces, axis=1).max()
        assert found["fmax"] == largest
        assert found["volume"] == row.structure_atoms().get_volume()


def test_deepmd(record, emt_cells, origin, tmp_path: Path) -> None:
    write(tmp_path / "out", record.database, origin, "deepmd")
    manifest = json.loads((tmp_path / "out.manifest.json").read_text(encoding="utf-8"))
    assert manifest["systems"] == ["Cu4-EF", "Cu4-EFV", "Cu4-V"]
    full = dpdata.LabeledSystem(str(tmp_path / "out" / "Cu4-EFV"), fmt="deepmd/npy")
    (row,) = [r for r in rows_of(record) if r.labels.kinds == ("E", "F", "V")]
    atoms = row.structure_atoms()
    assert full["coords"][0].tobytes() == atoms.positions.tobytes()
    assert full["cells"][0].tobytes() == atoms.cell.array.tobytes()
    assert full["energies"][0] == row.labels.energy
    assert full["forces"][0].tobytes() == row.labels.forces.tobytes()
    atoms.calc = EMT()
    assert full["virials"][0] == pytest.approx(-atoms.get_volume() * atoms.get_stress(voigt=False), rel=1e-12)
    partial = dpdata.LabeledSystem(str(tmp_path / "out" / "Cu4-EF"), fmt="deepmd/npy")
    assert "virials" not in partial.data
    assert not list((tmp_path / "out" / "Cu4-V").glob("set.000/energy.npy"))


def test_deepmd_sorts_atoms_and_keeps_frames_together(record, claims, session, decide, tmp_path: Path) -> None:
    campaign = record.create_campaign("mixed", {}, {"adapter": "mixed"})
    decided = decide(0, 3)
    for proposal, order in zip(decided.proposals, ("CuNiCuNi", "NiCuNiCu", "CuCuNiNi"), strict=True):
        proposal.atoms.symbols = Atoms(order).symbols
    keys = record.store_decision(campaign, decided)
    for key, proposal in zip(keys, decided.proposals, strict=True):
        attempt = claims.new_attempt(key, campaign, ("F",))
        claims.claim(attempt, session)
        forces = proposal.atoms.numbers[:, None] * np.ones(3) + np.arange(4)[:, None]
        claims.finish(attempt, session, Observations({"F": forces}), 1.0)
    write(tmp_path / "out", record.database, of_selection(record.database, Selection(campaign="mixed")), "deepmd")
    (system,) = (tmp_path / "out").iterdir()
    assert (system / "type.raw").read_text().split() == ["0", "0", "1", "1"]
    assert (system / "type_map.raw").read_text().split() == ["Ni", "Cu"]
    forces = np.load(system / "set.000" / "force.npy").reshape(3, 4, 3)[..., 0]
    assert (np.round(forces - [28, 28, 29, 29]) == [[1, 3, 0, 2], [0, 2, 1, 3], [2, 3, 0, 1]]).all()


def test_phonopy_builds_the_same_force_constants(record, columns, tmp_path: Path) -> None:
    _, host, forces, h = columns
    write(tmp_path / "out", record.database, of_selection(record.database, Selection(campaign="phonons")), "phonopy")
    (place,) = (tmp_path / "out").iterdir()
    content = json.loads((place / "supercell.json").read_text())
    assert content["positions"] == host.positions.tolist()
    found = parse_FORCE_SETS(filename=str(place / "FORCE_SETS"))
    assert [d["number"] for d in found["first_atoms"]] == [0, 0, 0]
    for d, axis, sign, f in zip(found["first_atoms"], (0, 0, 1), (1, -1, 1), forces, strict=True):
        assert np.asarray(d["displacement"]) == pytest.approx(sign * h * np.eye(3)[axis], abs=1e-15)
        assert np.asarray(d["forces"]).tobytes() == f.tobytes()
    cell = PhonopyAtoms(cell=content["cell"], numbers=content["numbers"], positions=content["positions"])
    phonons = Phonopy(cell, supercell_matrix=np.eye(3), primitive_matrix=np.eye(3))
    phonons.dataset = found
    phonons.produce_force_constants()
    column = -(forces[0] - forces[1]) / (2 * h)
    assert phonons.force_constants[:, 0, :, 0] == pytest.approx(column, abs=1e-2 * abs(column).max())


def test_displaced_cells_are_linked_and_weighed(record, columns, tmp_path: Path) -> None:
    keys, _, _, h = columns
    origin = of_selection(record.database, Selection(campaign="phonons"))
    done = write(tmp_path / "out.xyz", record.database, origin, weights=True)
    plus, minus, alone = read(done.path, ":")
    assert (plus.info["farfield_partner"], minus.info["farfield_partner"]) == (keys[1], keys[0])
    assert "farfield_partner" not in alone.info
    assert plus.info["farfield_fc"] == minus.info["farfield_fc"] != alone.info["farfield_fc"]
    assert (plus.info["farfield_step"], minus.info["farfield_step"], alone.info["farfield_step"]) == (h, -h, h)
    assert plus.info["config_forces_weight"] == pytest.approx(0.03**2 / (2 * h**2))
    assert alone.info["config_forces_weight"] == pytest.approx(0.03**2 / h**2)
    assert plus.info["config_energy_weight"] == plus.info["config_stress_weight"] == 0
    manifest = json.loads(done.manifest.read_text(encoding="utf-8"))
    assert (manifest["weights"]["displaced_cells"], manifest["weights"]["capped_displaced_cells"]) == (3, 0)
    decisions = schema.decision.c
    with record.database.write() as connection:
        connection.execute(update(schema.decision).where(decisions.number == 0).values(weights={"F": 1.0, "FC": 4.0}))
    capped = read(write(tmp_path / "out.xyz", record.database, origin, weights=True).path)
    assert capped.info["config_forces_weight"] == 100


def test_the_weighted_loss_of_a_trainer_is_ours(record, claims, session, decide, tmp_path: Path) -> None:
    """Residuals of a made-up model: the mean of squares that MACE minimises is a multiple of the framework's loss."""
    weights = {"E": 3.0, "F": 1.0, "V": 0.7}
    rng = np.random.default_rng(0)
    campaign = record.create_campaign("weighed", {}, {"adapter": "weighed"})
    decided = decide(0, 5, weights=weights)
    for i, proposal in enumerate(decided.proposals):
        for _ in range(i):
            proposal.atoms.extend(Atoms("Cu", rng.random((1, 3)) * 3))
    keys = record.store_decision(campaign, decided)
    for key, proposal in zip(keys, decided.proposals, strict=True):
        attempt = claims.new_attempt(key, campaign, ("E", "F", "V"))
        claims.claim(attempt, session)
        values = {
            "E": 1.0,
            "F": rng.normal(size=(len(proposal.atoms), 3)),
            "V": np.array([*rng.normal(size=3), 0, 0, 0]),
        }
        claims.finish(attempt, session, Observations(values), 1.0)
    cells = read(
        write(tmp_path / "w.xyz", record.database, of_selection(record.database, Selection(campaign="weighed")),
              weights=True).path, ":",
    )  # fmt: skip

    def losses(energy: float, forces: float, virial: float) -> tuple[float, float, float]:
        ours = theirs = stressed = 0.0
        atoms = sum(len(c) for c in cells)
        for c in cells:
            n, volume = len(c), c.get_volume()
            ours += (weights["E"] * energy) ** 2 + 3 * n * (weights["F"] * forces) ** 2
            ours += 3 * (weights["V"] * virial / n) ** 2
            w = {k: c.info[f"config_{k}_weight"] for k in ("energy", "forces", "virials", "stress")}
            same = w["energy"] * (energy / n) ** 2 / len(cells) + 3 * n * w["forces"] * forces**2 / (3 * atoms)
            theirs += same + w["virials"] * 3 * (virial / n) ** 2 / (9 * len(cells))
            stressed += same + w["stress"] * 3 * (virial / volume) ** 2 / (9 * len(cells))
        return ours, theirs, stressed

    ratios = [ours / theirs for ours, theirs, _ in (losses(1, 0, 0), losses(0, 1, 0), losses(0, 0, 1), losses(2, 3, 4))]
    assert ratios == pytest.approx([ratios[0]] * 4)
    assert losses(0, 0, 1)[1] == pytest.approx(losses(0, 0, 1)[2])


def test_names_of_the_labels_are_ours_to_choose(record, origin, tmp_path: Path) -> None:
    keys = Keys("energy_dft", "force_dft", "virial_dft", "stress_dft")
    done = write(tmp_path / "out.xyz", record.database, origin, keys=keys)
    first = read(done.path, 0)
    assert set(first.info) >= {"energy_dft", "virial_dft", "stress_dft"}
    assert "force_dft" in first.arrays
    assert json.loads(done.manifest.read_text())["keys"]["energy"] == "energy_dft"
    for wrong in ({"energy": "a b"}, {"energy": "x", "forces": "x"}, {"stress": "pbc"}, {"virials": "1v"}):
        with pytest.raises(RecordError):
            Keys(**wrong)


@pytest.mark.parametrize("form", [form for form in export.FORMATS if form != "ase"])
def test_a_dataset_is_written_again_byte_for_byte(
    record, columns, claims, session, decide, tmp_path: Path, form: str
) -> None:
    """Whatever happened in between. (ase.db notes the time of writing.)"""
    freeze(record.database, "mine", "campaign=phonons")
    one = write(tmp_path / "one", record.database, of_dataset(record.database, "mine"), form)
    campaign = record.campaign("phonons").id
    more = decide(1, 2)
    for key in record.store_decision(campaign, more):
        attempt = claims.new_attempt(key, campaign, ("E",))
        claims.claim(attempt, session)
        claims.finish(attempt, session, Observations({"E": 1.0}), 1.0)
    record.event(campaign, "withdrawn", "refuted", {"calculation": columns[0][0]})
    two = write(tmp_path / "two", record.database, of_dataset(record.database, "mine"), form)
    assert hash_of(one.path) == hash_of(two.path)
    first, second = (json.loads(x.manifest.read_text()) for x in (one, two))
    assert {**first, "file": ""} == {**second, "file": ""}
    assert first["sha256"] == hash_of(one.path)


@pytest.mark.parametrize("form", list(export.FORMATS))
def test_nothing_half_written_is_left(record, origin, tmp_path: Path, form: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(RecordError, match="nothing to export"):
        write(
            place / "out", record.database, of_selection(record.database, Selection(campaign="first", natoms=99)), form
        )
    assert list(place.iterdir()) == []
    with pytest.raises(RecordError, match="--output"):
        write(tmp_path / "none" / "out", record.database, origin, form)


def test_a_foreign_folder_is_not_replaced(record, origin, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(RecordError, match="no export of ours"):
        write(tmp_path / "out", record.database, origin, "deepmd")
    assert (tmp_path / "out" / "thesis.tex").exists()
    write(tmp_path / "mine", record.database, origin, "deepmd")
    write(tmp_path / "mine", record.database, origin, "deepmd")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("form", ["extxyz", "npz", "hdf5", "parquet", "deepmd"])
def test_memory_does_not_grow_with_the_rows(
    record, origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The same three rows many times over, as many bytes as would show."""
    for room, name, size in ((flat_arrays, "CHUNK", 50), (scalar_table, "CHUNK", 500), (deepmd, "FRAMES", 50)):
        monkeypatch.setattr(room, name, size)
    rows = rows_of(record)

    def repeated(times: int) -> Iterator[Labelled]:
        for k in range(times):
            if k % 100 == 0:
                gc.collect()  # what is held counts, not what waits for a collection
            yield from rows

    def peak(times: int) -> int:
        many = export.Origin(lambda: repeated(times), {})
        tracemalloc.start()
        write(tmp_path / f"out-{form}-{times}", record.database, many, form)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    gc.collect()
    gc.freeze()  # each collection looks at what this test made, not at all that was ever imported
    try:
        peak(800)  # the interpreter's own tables grow with the first names of files
        small, large = peak(800), peak(1600)
    finally:
        gc.unfreeze()
    assert large - small < 800 * 3 * 60  # a row of four atoms is above 200 bytes in any format
