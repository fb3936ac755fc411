"""What a worker process does before its first call, and where its host, not the calculation, is at fault."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from places import small_disk
from postgres import Server
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from tiny import until

from farfield.db import answers, schema
from farfield.db.answers import AnswerFile
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.identity import structure_atoms, structure_bytes
from farfield.db.record import Record
from farfield.db.schema import BLAMED
from farfield.oracles import registry
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.runner.task import Order, perform
from farfield.service.runner.worker import Worker, forget, this_worker

HOST = ("here", "boot-1", 1, 1.0)
KINDS = ("E", "F", "V")


@dataclass
class Made:
    """A record with one campaign, and orders for new attempts of its one calculation."""

    database: Database
    folder: Path
    campaign: int
    key: str

    def order(self, **other: Any) -> Order:
        attempt = Claims(self.database).new_attempt(self.key, self.campaign, KINDS)
        oracle, atoms = registry.load("emt"), _atoms()
        order = Order(
            self.database._url.render_as_string(hide_password=False), attempt, self.key, structure_bytes(atoms), KINDS,
            "emt", {}, str(self.folder), fingerprint_hash(oracle), 60.0, 2000.0, 1.0, str(self.folder / "scratch"),
        )  # fmt: skip
        return replace(order, **other)

    def row(self, order: Order) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(schema.attempt).where(schema.attempt.c.id == order.attempt)).one()

    def worker(self, order: Order) -> Worker:
        return this_worker(order.url, order.scratch, order.patience, order.beat)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    with open_database(f"sqlite:///{tmp_path / 'campaign.db'}", create=True) as database:
        record, oracle = Record(database), registry.load("emt")
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(_atoms(), fingerprint_hash(oracle))
        made = Made(database, tmp_path, campaign, key)
        yield made
        worker = made.worker(made.order())
        forget(worker)
        worker.close()


def _atoms() -> Any:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_a_worker_delivers_what_one_before_it_left_while_the_database_was_away(server: Server, tmp_path: Path) -> None:
    """Its answer was on disk only: the database went away, and the worker died before it came back."""
    oracle, atoms, kinds = registry.load("emt"), bulk("Cu", cubic=True), ("E", "F", "V")
    atoms.rattle(0.05, seed=1)
    with open_database(server.url, create=True) as database:
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(atoms, fingerprint_hash(oracle))
        attempt = claims.new_attempt(key, campaign, kinds)
        lost = claims.open_session(*HOST)
        assert claims.claim(attempt, lost)
    observed = oracle.evaluate(structure_atoms(structure_bytes(atoms)), kinds)
    server.stop("immediate")
    path = answers.write(tmp_path / "scratch" / "answers", AnswerFile(attempt, key, lost, kinds, 2.0, observed))
    back = threading.Timer(2.0, server.start)
    back.start()
    worker = this_worker(server.url, str(tmp_path / "scratch"), 60.0)
    back.join()
    try:
        assert not path.exists()
        assert worker.claims.states([attempt]) == {attempt: "finished"}
        again = worker.claims.new_attempt(key, campaign, kinds)
        assert not worker.claim(again)  # all is answered: nobody pays twice
        assert worker.claims.states([again]) == {again: "withdrawn"}
    finally:
        worker.close()
    with open_database(server.url, readonly=True) as database:
        labels = Record(database).labels(key)
    assert labels.energy == observed.values["E"]
    assert np.array_equal(labels.forces, observed.values["F"])


def test_a_call_is_charged_with_all_its_cores(made: Made) -> None:
    """What the site bills, whether the call brings an answer or not."""
    many = 1_000_000
    late = made.order(cores=many, wall_time=1e-6)
    assert "did not answer within" in perform(late).message
    done = made.order(cores=many)
    assert perform(done).outcome == "finished"
    for row in (made.row(late), made.row(done)):
        seconds = row.core_seconds / many
        assert 1e-5 < seconds <= row.ended - row.started  # no call is done in ten microseconds


def test_an_answer_outlives_a_database_that_is_away_for_longer_than_its_worker_waits(
    server: Server, tmp_path: Path
) -> None:
    """The call ends, the answer stays on disk, and the next call on that worker delivers it."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    oracle = registry.load("slow_emt:SlowEMT", {"seconds": 8.0})
    with open_database(server.url, create=True) as database:
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(atoms, fingerprint_hash(oracle))
        attempt = claims.new_attempt(key, campaign, KINDS)
        order = Order(
            server.url, attempt, key, structure_bytes(atoms), KINDS, "slow_emt:SlowEMT", {"seconds": 8.0},
            str(tmp_path), fingerprint_hash(oracle), 60.0, 2000.0, 1.0, str(tmp_path / "scratch"),
        )  # fmt: skip

        def leave() -> None:
            if until(lambda: claims.states([attempt]) == {attempt: "running"}, 60):
                server.stop("immediate")

        away = threading.Thread(target=leave)
        away.start()
        try:
            with pytest.raises(DBAPIError):
                perform(order)
        finally:
            away.join()
            server.start()
    (path,) = (tmp_path / "scratch" / "answers").iterdir()
    worker = this_worker(order.url, order.scratch, order.patience, order.beat)
    try:
        assert not path.exists()
        assert worker.claims.states([attempt]) == {attempt: "finished"}
    finally:
        forget(worker)


def test_an_answer_on_no_disk_waits_for_the_database_as_long_as_it_takes(server: Server, tmp_path: Path) -> None:
    """Longer than the worker's patience: nothing but this process has it."""
    patience = 1.0
    parameters = {"seconds": 3.0}
    oracle = registry.load("slow_emt:SlowEMT", parameters)
    atoms = _atoms()
    with open_database(server.url, create=True) as database:
        record, claims = Record(database), Claims(database)
        campaign = record.create_campaign("campaign", {}, oracle.fingerprint())
        key = record.store_calculation(atoms, fingerprint_hash(oracle))
        attempt = claims.new_attempt(key, campaign, KINDS)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        (scratch / "answers").write_text("a file where a folder should be")
        order = Order(
            server.url, attempt, key, structure_bytes(atoms), KINDS, "slow_emt:SlowEMT", parameters,
            str(tmp_path), fingerprint_hash(oracle), 60.0, 2000.0, patience, str(scratch),
        )  # fmt: skip

        def away_for_long() -> None:
            if until(lambda: claims.states([attempt]) == {attempt: "running"}, 60):
                server.stop("immediate")
                time.sleep(parameters["seconds"] + 5 * patience)
                server.start()

        away = threading.Thread(target=away_for_long)
        away.start()
        try:
            assert perform(order).outcome == "finished"
        finally:
            away.join()
        assert record.labels(key).energy is not None
    forget(this_worker(order.url, order.scratch, order.patience, order.beat))


def test_an_oracle_that_is_not_installed_here_is_the_fault_of_this_worker(made: Made) -> None:
    """Its controller could load it."""
    order = made.order(oracle="no_such_oracle_of_any_package")
    report = perform(order)
    assert report.outcome == "unfit"
    assert "cannot be loaded on this worker" in report.message
    row = made.row(order)
    assert (row.state, row.failure) == ("failed", "worker lost")
    assert not row.message.startswith(BLAMED)  # so it burns nothing of the calculation's


def test_a_worker_that_cannot_begin_says_so_and_leaves_the_attempt_to_others(made: Made) -> None:
    order = made.order()
    report = perform(replace(order, url=f"sqlite:///{made.folder / 'nowhere' / 'campaign.db'}"))
    assert report.outcome == "unfit"
    assert "no call can begin on this worker" in report.message
    assert made.row(order).state == "waiting"


def test_what_goes_wrong_here_ends_the_attempt_with_the_workers_name(made: Made) -> None:
    """A row left running would be waited for as long as this process lives."""
    order = made.order(structure=b"no cell")
    report = perform(order)
    assert report.outcome == "unfit"
    row = made.row(order)
    assert (row.state, row.failure) == ("failed", "worker lost")
    assert row.message.startswith(BLAMED)  # it may be the calculation after all


def test_an_answer_reaches_the_database_where_no_file_can_be_written(made: Made) -> None:
    (made.folder / "scratch").mkdir()
    order = made.order()
    made.worker(order)
    (made.folder / "scratch" / "answers").write_text("a file where a folder should be")
    assert perform(order).outcome == "finished"
    assert Record(made.database).labels(made.key).energy is not None


def test_a_disk_that_became_read_only_gets_no_call(made: Made) -> None:
    with small_disk(made.folder) as disk:
        order = made.order(scratch=str(disk / "scratch"))
        worker = made.worker(order)
        assert worker.full() is None
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        report = perform(order)
        assert report.outcome == "full"
        assert "cannot write" in report.message
        assert made.row(order).state == "waiting"
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert perform(order).outcome == "finished"
        forget(worker)


def test_campaigns_that_share_a_worker_keep_their_files_apart(made: Made) -> None:
    """Who resumes a campaign looks for answers in its own folder."""
    first = made.worker(made.order())
    assert made.worker(made.order()) is first
    order = made.order(scratch=str(made.folder / "other"))
    second = made.worker(order)
    assert (second.folder, second is first) == (made.folder / "other", False)
    assert perform(order).outcome == "finished"
    with made.database.read() as connection:
        session = schema.worker_session.c
        assert connection.scalars(select(session.closed).where(session.id == first.session.id)).one() is not None


def test_a_worker_that_cannot_say_how_a_call_ended_lets_go_of_it(server: Server, tmp_path: Path) -> None:
    """Its process may live on for days; what it holds must not wait for it."""
    with open_database(server.url, create=True) as database:
        claims = Claims(database)
        campaign = Record(database).create_campaign("campaign", {}, registry.load("emt").fingerprint())
        key = Record(database).store_calculation(_atoms(), fingerprint_hash(registry.load("emt")))
        made = Made(database, tmp_path, campaign, key)
        order = made.order(beat=0.2)
        worker = made.worker(order)
        session = worker.session.id
        assert worker.claim(order.attempt)
        assert worker.claim(order.attempt)  # the word of the first time was lost with the connection, say
        assert not claims.claim(order.attempt, session + 1)
        forget(worker)
        assert until(lambda: claims.expire(lease=2.0) == [order.attempt], 30)
        assert made.row(order).failure == "worker lost"
        fresh = made.worker(order)
        assert fresh.session.id != session
        forget(fresh)
        fresh.close()
