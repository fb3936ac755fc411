"""What a worker process does before its first call."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from ase.build import bulk
from postgres import Server

from farfield.db import answers
from farfield.db.answers import AnswerFile
from farfield.db.claims import Claims
from farfield.db.engine import open_database
from farfield.db.identity import structure_atoms, structure_bytes
from farfield.db.record import Record
from farfield.oracles import registry
from farfield.oracles.fingerprint import fingerprint_hash
from farfield.service.runner.worker import this_worker

HOST = ("here", "boot-1", 1, 1.0)


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
