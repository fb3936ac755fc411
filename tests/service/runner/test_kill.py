"""The law of decision A1: kill -9 of the controller at any moment, run again, and nothing is lost or bought twice.

Power loss is another matter: there the database's synchronous writes stand guard (decisions A8).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import processes
import pytest
from ase import Atoms
from distributed import LocalCluster
from processes import comes_to, ends, soon
from sqlalchemy import func, select

from farfield.db import schema
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations
from farfield.service.runner.closing import closed_at_end

SECONDS = 0.3
CALLS = 28
"""Calls of the undisturbed campaign."""
KILLS = 10


class SlowEMT(EMTOracle):
    """EMT that takes its time, so that there is something to be killed in the middle of."""

    name = "slow emt"

    def fingerprint(self) -> Mapping[str, Any]:
        """That of EMT under another adapter's name."""
        return {**super().fingerprint(), "adapter": "slow emt"}

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """EMT's answer, later."""
        time.sleep(float(os.environ.get("KILL_SECONDS", SECONDS)))
        return super().evaluate(atoms, kinds)


CAMPAIGN = f"""
[campaign]
name = "tiny"
[host]
lattice_constant = 3.59
[target]
size = 5
tol_geo = 0.2
tol_energy = 0.05
[oracle]
name = "{Path(__file__).stem}:SlowEMT"
[run]
folder = "."
"""


def controller(folder: Path, *options: str, seconds: float = SECONDS) -> subprocess.Popen[bytes]:
    """`farfield run` in a process group of its own, with calls of `seconds`."""
    (folder / "tiny.toml").write_text(CAMPAIGN, encoding="utf-8")
    ours = Path(__file__).parent, Path(processes.__file__).parent
    path = [*map(str, ours), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONFAULTHANDLER": "1"}
    environment["KILL_SECONDS"] = str(seconds)
    environment.pop("FARFIELD_DATABASE", None)
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "farfield", "run", "tiny.toml", *options],
            cwd=folder,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )


def finish(folder: Path, *options: str) -> None:
    output = folder / "output.txt"
    assert ends(controller(folder, *options), output) == 0, output.read_text(encoding="utf-8")


class Watch:
    """What the database says of attempts while somebody else writes it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "campaign.db"
        self.database: Database | None = None

    def finished(self) -> int:
        """Attempts that brought a label so far; -1 before there is a database."""
        if self.database is None:
            if not self.path.exists():
                return -1
            self.database = open_database(f"sqlite:///{self.path}", readonly=True)
        with self.database.read() as connection:
            return connection.scalars(select(func.count()).where(schema.attempt.c.state == "finished")).one()

    def close(self) -> None:
        if self.database is not None:
            self.database.close()


def decided(folder: Path) -> list[tuple[int, int, str, str]]:
    """(decision, ordinal, calculation, kinds) of every proposal."""
    with open_database(f"sqlite:///{folder / 'campaign.db'}") as database:
        record = Record(database)
        stored = record.campaign("tiny")
        assert stored is not None
        return [
            (d.number, p.ordinal, p.calculation, "".join(p.kinds))
            for d in record.decisions(stored.id)
            for p in d.proposals
        ]


def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    calm = controller(undisturbed)
    moments = random.Random(20260614)
    watch = Watch(disturbed)
    # random stages in order, from an empty database to the last verification call, and a random while after each
    for stage in sorted(moments.choices(range(CALLS - 1), k=KILLS)):
        process, delay = controller(disturbed), moments.uniform(0.0, 0.6)
        comes_to(process, lambda stage=stage: watch.finished() >= stage, disturbed / "output.txt")
        time.sleep(delay)
        assert process.poll() is None, (disturbed / "output.txt").read_text(encoding="utf-8")
        process.kill()
        process.wait(timeout=60)
    watch.close()
    finish(disturbed)
    assert calm.wait(timeout=180) == 0, (undisturbed / "output.txt").read_text(encoding="utf-8")

    assert len(decided(undisturbed)) == CALLS
    assert decided(disturbed) == decided(undisturbed)
    with open_database(f"sqlite:///{disturbed / 'campaign.db'}") as database, database.read() as connection:
        o, a, c = schema.observation.c, schema.attempt.c, schema.calculation.c
        bought = set(connection.scalars(select(c.key).join(schema.attempt, a.calculation_id == c.id)))
        assert bought == {key for _, _, key, _ in decided(undisturbed)}
        per_kind = connection.execute(
            select(func.count()).where(o.kind != "FC").group_by(o.calculation_id, o.kind)
        ).scalars()
        assert set(per_kind) == {1}
        open_ones = connection.scalars(select(func.count()).where(a.state.in_(schema.OPEN))).one()
        assert open_ones == 0
        lost = connection.scalars(select(func.count()).where(a.failure == "worker lost")).one()
        assert 1 <= lost <= 2 * KILLS  # at most one call per slot is bought again (decisions A6)
        superseded = connection.scalars(select(func.count()).where(a.state == "superseded")).one()
        assert superseded == 0
    # nothing of the killed is left behind, once their supervisors have ended
    assert soon(lambda: [p.name for p in disturbed.glob("scratch/**/*")] == ["answers"])


def test_ctrl_c_once_drains_twice_stops_and_run_resumes(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    process = controller(tmp_path)
    comes_to(process, lambda: watch.finished() >= 1, tmp_path / "output.txt")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    assert process.wait(timeout=180) == 0
    text = (tmp_path / "output.txt").read_text(encoding="utf-8")
    assert "drained: Ctrl-C" in text
    assert "Traceback" not in text
    drained = watch.finished()
    assert 1 <= drained < CALLS
    assert attempts(tmp_path) == {"finished": drained}

    process, output = controller(tmp_path, seconds=4.0), tmp_path / "output.txt"
    comes_to(process, lambda: watch.finished() >= drained + 2, output)
    os.killpg(process.pid, signal.SIGINT)
    comes_to(process, lambda: output.read_text(encoding="utf-8").count("Draining:") == 2, output)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=180) == 130
    watch.close()
    finish(tmp_path)
    assert len(decided(tmp_path)) == CALLS
    assert attempts(tmp_path)["finished"] == CALLS
    assert "Traceback" not in (tmp_path / "output.txt").read_text(encoding="utf-8")


def test_calls_in_flight_outlive_a_controller_whose_scheduler_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # spawned workers take the path along
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )
    with closed_at_end(cluster):
        process, watch = controller(tmp_path, "--scheduler", cluster.scheduler_address), Watch(tmp_path)
        comes_to(process, lambda: watch.finished() >= 1, tmp_path / "output.txt")
        process.kill()
        process.wait(timeout=60)
        watch.close()
        finish(tmp_path, "--scheduler", cluster.scheduler_address)
    assert attempts(tmp_path) == {"finished": CALLS}


def attempts(folder: Path) -> dict[str, int]:
    """How many attempts that ran ended how."""
    with open_database(f"sqlite:///{folder / 'campaign.db'}") as database:
        record = Record(database)
        stored = record.campaign("tiny")
        assert stored is not None
        return {state: share.calls for state, share in record.cost(stored.id).by_state.items()}
