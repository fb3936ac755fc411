"""The campaign that faults are tried on: a few small cells of copper, an oracle that takes its time, a controller in a
process of its own; and the laws that hold after every fault.

Power loss is another matter: there the database's synchronous writes stand guard (decisions A8).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from select import select as select_files
from typing import Any

from ase import Atoms
from processes import ends, last_words, parent, soon
from sqlalchemy import func, select

from farfield.db import schema
from farfield.db.claims import Claims
from farfield.db.engine import Database, open_database
from farfield.db.record import Record
from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations

Decided = list[tuple[int, int, str, str]]
SECONDS = 0.3
HEARTBEAT = 1.0
CAMPAIGN = """
[campaign]
name = "tiny"
[host]
lattice_constant = 3.59
[target]
size = 5
tol_geo = 0.2
tol_energy = 0.05
[oracle]
name = "tiny:SlowEMT"
memory = 500
wall_time = 46
[run]
folder = "."
"""


class SlowEMT(EMTOracle):
    """EMT that takes its time, so that there is something to be killed in the middle of, and starts a process that
    flees into a session of its own. On a deadly node a call kills the worker it runs for."""

    name = "slow emt"

    def fingerprint(self) -> Mapping[str, Any]:
        """That of EMT under another adapter's name."""
        return {**super().fingerprint(), "adapter": "slow emt"}

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """EMT's answer, later."""
        if "TINY_DEADLY" in os.environ:
            os.kill(parent(os.getppid()), signal.SIGKILL)
        offspring = subprocess.Popen(["sleep", "600"], start_new_session=True)
        try:
            # not time.sleep, which a faked clock (libfaketime) breaks
            select_files([], [], [], float(os.environ.get("TINY_SECONDS", SECONDS)))
            return super().evaluate(atoms, kinds)
        finally:
            offspring.kill()
            offspring.wait()


@dataclass
class Counts:
    """What the record says after a campaign."""

    states: dict[str, int]
    labels: int
    doubled: int
    unknown: int
    bought: int

    def __str__(self) -> str:
        states = ", ".join(f"{n} {state}" for state, n in sorted(self.states.items()))
        return f"{self.bought} calculations, {self.labels} labels, {self.doubled} twice; attempts: {states}"


class Tiny:
    """One campaign in `folder`, its database at `url` (default: SQLite beside it); `sections` is added to its file,
    what its controllers print goes to `printed` (default: beside it)."""

    def __init__(
        self,
        folder: Path,
        sections: str = "",
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
        heartbeat: float = HEARTBEAT,
        printed: Path | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.url = folder, url or f"sqlite:///{folder / 'campaign.db'}"
        self.environment = dict(environment or {})
        self.printed = printed or folder / "output.txt"
        database = f'[database]\nurl = "{self.url}"\nheartbeat = {heartbeat}\n'
        (folder / "tiny.toml").write_text(CAMPAIGN + database + sections, encoding="utf-8")
        self._database: Database | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, *options: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """`farfield run` in a process group of its own; `prefix` stands before the command."""
        with self.printed.open("ab") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "farfield", "run", "tiny.toml", *options],
                cwd=self.folder,
                stdout=output,
                stderr=output,
                env={**environment(), **self.environment},
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def finish(self, *options: str, patience: float = 480) -> None:
        """Run it to its end, which must be within tolerance."""
        self.ended(self.run(*options), patience)

    def ended(self, process: subprocess.Popen[bytes], patience: float = 480) -> None:
        """Wait for a controller, which must end within tolerance."""
        code = ends(process, self.printed, patience)
        assert code == 0, f"exit code {code}\n{self.output()}"

    def output(self) -> str:
        """What its controllers have printed."""
        return self.printed.read_text(encoding="utf-8")

    def database(self) -> Database | None:
        """The database, None before there is one."""
        if self._database is None:
            if self.url.startswith("sqlite") and not Path(self.url.removeprefix("sqlite:///")).exists():
                return None
            try:
                self._database = open_database(self.url)
            except Exception as fault:
                if "holds no farfield tables" not in str(fault):
                    raise
        return self._database

    def finished(self) -> int:
        """Attempts that brought a label so far; -1 before there is a database."""
        database = self.database()
        if database is None:
            return -1
        with database.read() as connection:
            return connection.scalars(select(func.count()).where(schema.attempt.c.state == "finished")).one()

    def reaches(self, count: int, process: subprocess.Popen[bytes], patience: float = 300) -> None:
        """Wait until `count` attempts have finished."""
        deadline = time.monotonic() + patience
        while self.finished() < count:
            assert process.poll() is None, f"it ended first\n{self.output()}"
            assert time.monotonic() < deadline, f"{self.finished()} of {count}\n{last_words(process, self.printed)}"
            time.sleep(0.02)

    def running(self) -> list[tuple[int, int]]:
        """(attempt, pid of its worker) of all that run."""
        database = self.database()
        if database is None:
            return []
        record = Record(database)
        stored = record.campaign("tiny")
        leases = [] if stored is None else Claims(database).leases(stored.id)
        return [(x.attempt, x.holder.pid) for x in leases if x.holder is not None]

    def one_running(self, process: subprocess.Popen[bytes]) -> tuple[int, int]:
        """Wait for a running attempt, and the pid of its worker."""
        deadline = time.monotonic() + 120
        while not (found := self.running()):
            assert process.poll() is None, f"it ended first\n{self.output()}"
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.01)
        return found[0]

    def decided(self) -> Decided:
        """(decision, ordinal, calculation, kinds) of every proposal."""
        database = self.database()
        assert database is not None
        record = Record(database)
        stored = record.campaign("tiny")
        assert stored is not None
        return [
            (d.number, p.ordinal, p.calculation, "".join(p.kinds))
            for d in record.decisions(stored.id)
            for p in d.proposals
        ]

    def observed(self) -> set[tuple[str, str, float]]:
        """(calculation, kind, value) of every label: what was acknowledged."""
        database = self.database()
        assert database is not None
        o, c = schema.observation.c, schema.calculation.c
        with database.read() as connection:
            rows = connection.execute(
                select(c.key, o.kind, o.value).join(schema.calculation, c.id == o.calculation_id).where(o.kind != "FC")
            )
            return {(key, kind, float(value)) for key, kind, value in rows}

    def counts(self) -> Counts:
        """How attempts ended, and whether a label was taken twice."""
        database = self.database()
        assert database is not None
        a, c, o = schema.attempt.c, schema.calculation.c, schema.observation.c
        decided = {key for _, _, key, _ in self.decided()}
        with database.read() as connection:
            rows = connection.execute(select(a.state, a.failure, a.started)).all()
            states = Counter(
                f"failed: {r.failure}" if r.failure else r.state
                for r in rows
                if r.started is not None or r.state in OPEN
            )
            bought = set(connection.scalars(select(c.key).join(schema.attempt, a.calculation_id == c.id)))
            per_kind = connection.execute(
                select(func.count()).where(o.kind != "FC").group_by(o.calculation_id, o.kind)
            ).scalars()
            numbers = list(per_kind)
        return Counts(
            dict(states), len(numbers), sum(n > 1 for n in numbers), len(bought - decided), len(bought & decided)
        )

    def close(self) -> None:
        """End controllers that a failed test has left, close our own connection."""
        for process in self._started:
            process.kill()  # does nothing where it has ended
            process.wait()
        if self._database is not None:
            self._database.close()
            self._database = None


OPEN = schema.OPEN


def environment() -> dict[str, str]:
    """Ours, with this folder on the path, so that the oracle is found, and no other database."""
    path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    clean = {k: v for k, v in os.environ.items() if k != "FARFIELD_DATABASE"}
    return {**clean, "PYTHONPATH": os.pathsep.join(path), "PYTHONFAULTHANDLER": "1"}


def law(tiny: Tiny, calm: Decided, acknowledged: Collection[tuple[str, str, float]] = ()) -> Counts:
    """The law of decision A1 for barrier rounds, after any fault; the counts, for people.

    Every acknowledged label is present, none was accepted twice, the same calculations were bought as in the calm run,
    no attempt is left open, and no process works in the campaign's folder.
    """
    counts = tiny.counts()
    assert set(acknowledged) <= tiny.observed()
    assert counts.doubled == 0, counts
    assert counts.unknown == 0, counts
    assert tiny.decided() == calm
    assert not set(counts.states) & set(OPEN), counts
    assert nothing_left(tiny.folder)
    assert not list((tiny.folder / "scratch").glob("answers/*")), counts
    return counts


def nothing_left(folder: Path) -> bool:
    """Whether soon no process works in `folder`, and none that an oracle started is left with it as its own."""
    return soon(lambda: not working_for(folder))


def working_for(folder: Path) -> list[int]:
    """Processes whose working folder is `folder` or below; not ours."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                where = os.readlink(entry / "cwd")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and (where == str(folder) or where.startswith(f"{folder}{os.sep}")):
                found.append(int(entry.name))
    return found


def until(true: Callable[[], bool], patience: float = 120) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
