"""Many structures at once: everything comes back bit for bit, once, and nothing changes when it comes again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import write as write_atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy import func, select

from farfield.db import bulk as bulk_room
from farfield.db import schema
from farfield.db.blobs import load_blobs
from farfield.db.bulk import Frame, store_labelled
from farfield.db.export import of_selection, write
from farfield.db.frames import frames
from farfield.db.query import Selection
from farfield.db.query import select as select_query
from farfield.db.sources import file_hash, open_source
from farfield.errors import RecordError
from farfield.oracles.observation import Observations, virial_from_stress

FINGERPRINT = {"adapter": "emt", "version": 1}


@pytest.fixture
def source(record) -> int:
    return open_source(record.database, "file.xyz", "0" * 64, FINGERPRINT)


def stored(record, source: int, some: list[Frame]):
    total = None
    for total in store_labelled(record.database, source, some):  # noqa: B007
        pass
    return total


def made(count: int = 7, seed: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, rng=rng)
        values = [rng.normal(), rng.normal(size=(4, 3)), rng.normal(size=6)]
        out.append(Frame(atoms, *(v if i % 4 != k else None for k, v in enumerate(values)), name=f"frame {i}"))
    return out


def counts(record) -> dict[str, int]:
    with record.database.read() as connection:
        return {
            t.name: connection.scalar(select(func.count()).select_from(t)) or 0 for t in schema.metadata.sorted_tables
        }


def same(row, frame: Frame) -> None:
    atoms, known = row.structure_atoms(), row.labels
    assert atoms.positions.tobytes() == (frame.atoms.positions + 0.0).tobytes()
    assert atoms.cell.array.tobytes() == (frame.atoms.cell.array + 0.0).tobytes()
    assert (atoms.numbers == frame.atoms.numbers).all()
    assert (atoms.pbc == frame.atoms.pbc).all()
    assert known.kinds == tuple(frame.values)
    assert known.energy == frame.energy
    for mine, theirs in ((known.forces, frame.forces), (known.virial, frame.virial)):
        assert mine is theirs is None or mine.tobytes() == np.asarray(theirs, "<f8").tobytes()


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_once_and_again(record, source, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(bulk_room, "BLOCK", block)
    some = made()
    total = stored(record, source, [*some, some[0]])
    assert (total.new, total.known + total.repeated) == (7, 1)
    before = counts(record)
    for row, frame in zip(select_query(record.database), some, strict=True):
        same(row, frame)
    again = stored(record, source, some)
    assert (again.new, again.known, set(again.differences.values())) == (0, 7, {0.0})
    assert counts(record) == before
    assert before["blob"] == 14


def test_arrays_say_what_the_rows_say(record, source) -> None:
    some = made()
    stored(record, source, some)
    (block,) = select_query(record.database).arrays()
    for i, frame in enumerate(some):
        mine = slice(block.offsets[i], block.offsets[i + 1])
        assert block.positions[mine].tobytes() == (frame.atoms.positions + 0.0).tobytes()
        assert block.has[i].tolist() == [k in frame.values for k in "EFV"]
        for held, value in ((block.energies[i], frame.energy), (block.forces[mine], frame.forces),
                            (block.virials[i], frame.virial)):  # fmt: skip
            assert np.isnan(held).all() if value is None else (held == value).all()
    assert block.forces.flags.c_contiguous
    assert block.forces.dtype == np.float64
    sizes = [len(b) for b in select_query(record.database, "fmax is known").arrays(size=2)]
    assert sum(sizes) == sum(f.forces is not None for f in some)


def test_what_was_there_stays_and_is_compared(record, claims, session, campaign, source) -> None:
    (frame,) = made(1, seed=4)
    key = record.store_calculation(frame.atoms, record.campaign("first").fingerprint_hash)
    attempt = claims.new_attempt(key, campaign, ("F",))
    claims.claim(attempt, session)
    claims.finish(attempt, session, Observations({"F": np.zeros((4, 3))}), 1.0)
    total = stored(record, source, [Frame(frame.atoms, 1.0, np.full((4, 3), 0.25), None, "theirs")])
    assert (total.new, total.differences, total.furthest) == (1, {"F": 0.25}, {"F": "theirs"})
    (row,) = select_query(record.database)
    assert (row.labels.energy, row.labels.forces.any()) == (1.0, False)


def test_a_campaign_gets_them_for_nothing(record, claims, session, source, decide) -> None:
    decided = decide(0, 2)
    some = [Frame(p.atoms, 1.0, np.zeros((4, 3)), np.zeros(6)) for p in decided.proposals]
    stored(record, source, some)
    campaign = record.create_campaign("thrifty", {}, FINGERPRINT)
    record.store_decision(campaign, decided)
    assert record.missing(campaign, 0) == []
    assert [a.energy for a in record.answers(campaign, 0)] == [1.0, 1.0]
    assert record.cost(campaign).calls == 0


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (Frame(bulk("Cu"), name="n"), "has no energy"),
        (Frame(bulk("Cu"), np.nan, name="n"), "no label"),
        (Frame(bulk("Cu"), 1.0, np.zeros((2, 3)), name="n"), "no label"),
        (Frame(Atoms("Cu", [[np.inf, 0, 0]]), 1.0, name="n"), "finite"),
        (Frame(Atoms(), 1.0, name="n"), "needs atoms"),
    ],
)
def test_what_is_no_label_is_refused(record, source, frame: Frame, words: str) -> None:
    with pytest.raises(RecordError, match=words) as said:
        stored(record, source, [*made(2), frame])
    assert str(said.value).startswith("n")
    assert counts(record)["calculation"] == 0


finite = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=True)


@st.composite
def structures(draw) -> Frame:
    n = draw(st.one_of(st.integers(1, 12), st.sampled_from([100, 5000])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = draw(st.sampled_from([[1], [29, 28], list(range(1, 119))]))
    positions = rng.normal(size=(n, 3)) * draw(st.sampled_from([1e-12, 1.0, 1e4]))
    if n < 13:
        positions = draw(arrays(np.float64, (n, 3), elements=finite))
    cell = np.diag(rng.random(3) + 3) + draw(arrays(np.float64, (3, 3), elements=st.floats(-0.9, 0.9)))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    atoms = Atoms(numbers=rng.choice(numbers, n), positions=positions, cell=cell, pbc=pbc)
    if draw(st.booleans()):
        atoms.set_initial_magnetic_moments(rng.normal(size=n))
    kinds = draw(st.lists(st.sampled_from("EFV"), unique=True, min_size=1))
    return Frame(
        atoms,
        draw(finite) if "E" in kinds else None,
        rng.normal(size=(n, 3)) if "F" in kinds else None,
        draw(arrays(np.float64, 6, elements=finite)) if "V" in kinds else None,
        draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)).replace("\0", "") + "å",
    )


def test_any_structure_comes_back(record, source, tmp_path: Path) -> None:
    """Through the database, and through extended XYZ and back into another import."""

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(structures())
    def check(frame: Frame) -> None:
        before = counts(record)["calculation"]
        stored(record, source, [frame])
        row = list(select_query(record.database))[-1] if counts(record)["calculation"] > before else None
        if row is None:
            return  # drawn twice
        same(row, frame)
        out = write(
            tmp_path / "out.xyz", record.database, of_selection(record.database, Selection(query=f"id={row.id}"))
        )
        (back,) = frames(out.path)
        same(row, back)
        if frame.atoms.has("initial_magmoms"):
            assert (back.atoms.get_initial_magnetic_moments() == frame.atoms.get_initial_magnetic_moments()).all()

    check()


def test_labels_of_other_programs(tmp_path: Path) -> None:
    """Calculator results in extended XYZ and ase.db: raw forces, the free energy, signs of the virial."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    truth = atoms.get_potential_energy(), atoms.get_forces(), virial_from_stress(atoms.get_stress(), atoms.get_volume())
    dressed = atoms.copy()
    results = {"energy": truth[0] - 1, "free_energy": truth[0], "forces": truth[1], "stress": atoms.get_stress()}
    dressed.calc = SinglePointCalculator(dressed, **results)
    dressed.set_constraint(FixAtoms([0, 1]))
    write_atoms(tmp_path / "a.xyz", [dressed, atoms])
    with connect(tmp_path / "b.db") as held:
        held.write(dressed)
    named = atoms.copy()
    named.info.update(dft_energy=truth[0], dft_virial=np.array(truth[2])[[0, 5, 4, 5, 1, 3, 4, 3, 2]])
    named.arrays["dft_forces"] = truth[1]
    write_atoms(tmp_path / "c.xyz", named)
    keys = {"energy": "dft_energy", "forces": "dft_forces", "virials": "dft_virial"}
    for path, found in (("a.xyz", {}), ("b.db", {}), ("c.xyz", keys)):
        frame = next(frames(tmp_path / path, keys=found))
        assert frame.energy == pytest.approx(truth[0], abs=1e-7)
        assert frame.forces == pytest.approx(truth[1], abs=1e-7)
        assert frame.virial == pytest.approx(truth[2], abs=1e-6)
    assert not frame.atoms.constraints


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no file"):
        list(frames(tmp_path / "none.xyz"))
    (tmp_path / "bad.xyz").write_text("2\nProperties=species:S:1:pos:R:3\nCu 0 0 0\nCu 0 zero 0\n")
    with pytest.raises(RecordError, match="frame 0 cannot be read"):
        list(frames(tmp_path / "bad.xyz"))
    (tmp_path / "some.xyz").write_text("1\nProperties=species:S:1:pos:R:3 REF_energy=many\nCu 0 0 0\n")
    with pytest.raises(RecordError, match="no numbers"):
        list(frames(tmp_path / "some.xyz"))


def test_digests_are_those_of_the_blobs(record, source) -> None:
    import hashlib

    stored(record, source, made())
    b = schema.blob.c
    with record.database.read() as connection:
        digests = dict(connection.execute(select(b.id, b.digest)).all())
        for row, data in load_blobs(connection, digests).items():
            assert hashlib.sha256(data).digest() == bytes(digests[row])


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
