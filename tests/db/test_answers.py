"""Answer files: taken in once, whatever happened to the process that wrote them (decisions A7)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from farfield.db import answers
from farfield.db.answers import AnswerFile, Ingested, ingest, read, write


@pytest.fixture
def left(record, claims, campaign, session, decide, answer, tmp_path: Path):
    """A running attempt whose worker wrote its answer and died: the answer and the folder."""
    keys = record.store_decision(campaign, decide(0, 2))
    attempt = claims.new_attempt(keys[0], campaign, ("E", "F", "V"))
    claims.claim(attempt, session)
    observed = answer(energy_zero=-3.6, moments=np.arange(4.0), settings={"mesh": [2, 2, 2]}, missing={"x": "y"})
    made = AnswerFile(attempt, keys[0], session, ("E", "F", "V"), 12.5, observed)
    write(tmp_path / "answers", made)
    return made, tmp_path / "answers"


def test_files_come_back_bit_for_bit(left) -> None:
    made, folder = left
    (path,) = folder.iterdir()
    assert path.name == f"{made.calculation}-{made.attempt}.answer"
    back = read(path)
    for field in ("attempt", "calculation", "session", "kinds", "core_seconds"):
        assert getattr(back, field) == getattr(made, field)
    ours, theirs = made.observations, back.observations
    assert {k: np.asarray(v).tobytes() for k, v in ours.values.items()} == {
        k: np.asarray(v).tobytes() for k, v in theirs.values.items()
    }
    assert (ours.energy_zero, ours.settings, ours.missing) == (theirs.energy_zero, theirs.settings, theirs.missing)
    assert (ours.moments == theirs.moments).all()


def test_a_file_is_taken_in_once(left, record, claims) -> None:
    made, folder = left
    assert ingest(claims, folder) == Ingested(accepted=(made.attempt,))
    assert ingest(claims, folder) == Ingested()
    write(folder, made)  # the commit went through, the deletion did not
    assert ingest(claims, folder) == Ingested(accepted=(made.attempt,))
    assert list(folder.iterdir()) == []
    known = record.labels(made.calculation)
    assert (known.energy, known.energy_zero) == (-3.7, -3.6)
    assert record.cost(1).core_seconds == 12.5


def test_a_file_of_a_lost_worker_counts(left, record, claims, session) -> None:
    made, folder = left
    claims.close_session(session)
    assert record.missing(1, 0)[0].failures == {}
    assert ingest(claims, folder).accepted == (made.attempt,)
    assert [m.ordinal for m in record.missing(1, 0)] == [1]


def test_a_file_that_comes_second_is_superseded(left, record, claims, session, answer) -> None:
    made, folder = left
    other = claims.new_attempt(made.calculation, 1, ("E", "F", "V"))
    claims.claim(other, session)
    claims.finish(other, session, answer(shift=1.0), 1.0)
    assert ingest(claims, folder) == Ingested(superseded=(made.attempt,))
    assert record.labels(made.calculation).energy == -2.7


def test_the_gate_stands_before_the_record(left, record, claims, answer) -> None:
    made, folder = left
    bad = answer()
    bad.values["F"] = bad.values["F"] + 1.0
    write(folder, dataclasses.replace(made, observations=bad))
    assert ingest(claims, folder) == Ingested(refused=(made.attempt,))
    assert record.missing(1, 0)[0].failures == {"bad answer": 1}
    assert record.labels(made.calculation).kinds == ()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("change", [{"attempt": 99}, {"calculation": "f" * 64}, {"session": 77}])
def test_files_of_another_database_are_left_alone(left, claims, change: dict[str, object]) -> None:
    made, folder = left
    (path,) = folder.iterdir()
    path.unlink()
    theirs = write(folder, dataclasses.replace(made, **change))
    before = theirs.read_bytes()
    assert ingest(claims, folder) == Ingested(foreign=(theirs.name,))
    assert theirs.read_bytes() == before


def test_damaged_files_are_set_aside(left, claims) -> None:
    _, folder = left
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    (folder / "half.part").write_bytes(b"a write that was cut off")
    assert ingest(claims, folder) == Ingested(damaged=(path.name,))
    assert sorted(p.suffix for p in folder.iterdir()) == [".damaged", ".part"]
    assert ingest(claims, folder) == Ingested()


def test_a_write_that_was_cut_off_goes_with_its_attempt(left, claims, session) -> None:
    made, folder = left
    (path,) = folder.iterdir()
    part = path.rename(path.with_suffix(".part"))
    assert ingest(claims, folder) == Ingested()
    assert part.exists()  # its worker may live
    claims.close_session(session)
    theirs = part.with_name(f"{'f' * 64}-{made.attempt}.part")
    theirs.write_bytes(b"of another database")
    assert ingest(claims, folder) == Ingested()
    assert list(folder.iterdir()) == [theirs]


def test_no_folder_is_no_file(claims, tmp_path: Path) -> None:
    assert ingest(claims, tmp_path / "none") == Ingested()
    assert answers.__all__ == ["AnswerFile", "Ingested", "ingest", "read", "write"]
