"""One tiny campaign under every fault that a cluster knows: nothing acknowledged is lost, nothing is paid twice, nobody
is left over, and the same is bought as if nothing had happened (decision A1)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import postgres
import pytest
from daemons import Daemons, below, daemons, nanny_of
from places import another_host, fill, namespace, small_disk
from processes import gone
from required import absent
from sqlalchemy import func, select
from tiny import HEARTBEAT, Decided, Tiny, environment, law, until, working_for

from farfield.db import schema
from farfield.db.claims import Claims

LEASE = 4 * HEARTBEAT
PATIENT = 5.0
"""Heartbeat in s of campaigns in which no lease is to run out, on a busy machine either."""
pytestmark = pytest.mark.counts


def after(fault: str, tiny: Tiny, acknowledged: set[tuple[str, str, float]]) -> None:
    """What must hold at any time; the counts are printed."""
    counts = tiny.counts()
    print(f"{fault}: {counts}")
    assert acknowledged <= tiny.observed(), fault
    assert counts.doubled == 0, fault


def strike(tiny: Tiny, process: subprocess.Popen[bytes], what: str) -> None:
    """kill -9 in the middle of a call: the worker, or one of the processes below it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        _, worker = tiny.one_running(process)
        targets = [worker] if what == "worker" else below(worker)[what]
        try:
            for pid in targets:
                os.kill(pid, signal.SIGSTOP)
            found = in_a_call(worker)
            for pid in targets:
                os.kill(pid, signal.SIGKILL if found else signal.SIGCONT)
        except ProcessLookupError:  # the call was over in between
            for pid in targets:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            continue
        if targets and found:
            assert gone(targets)
            return
    raise AssertionError(f"no {what} to kill\n{tiny.output()}")


def in_a_call(worker: int) -> bool:
    """Whether its oracle is in the midst of a cell: it keeps a process of its own then."""
    return bool(below(worker)["grandchild"])


def test_a_call_in_flight_outlives_its_scheduler(
    server: postgres.Server, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    """It takes longer than Dask waits for a task of a worker that has lost its scheduler."""
    with daemons(tmp_path) as cluster:
        cluster.worker(TINY_SECONDS="33")
        cluster.registered()
        tiny = tiny_in(tmp_path / "waiting", f'[cluster]\nscheduler = "{cluster.address}"\n', server.url)
        process = tiny.run()
        try:
            attempt, _ = tiny.one_running(process)
            cluster.scheduler.kill()
            database = tiny.database()
            assert database is not None
            claims = Claims(database)
            assert until(lambda: claims.states([attempt]) == {attempt: "finished"}, 120)
            assert process.poll() is None  # the controller waits for the new scheduler, and has it by now
        finally:
            process.kill()
            process.wait()


def test_processes_of_one_host(calm: Decided, tmp_path: Path, tiny_in: Callable[..., Tiny]) -> None:
    tiny = tiny_in(tmp_path / "one", heartbeat=PATIENT)
    process = tiny.run()
    for stage, what in enumerate(("worker", "child", "grandchild", "supervisor", "worker")):
        tiny.reaches(1 + 2 * stage, process)
        acknowledged = tiny.observed()
        strike(tiny, process, what)
        tiny.reaches(2 + 2 * stage, process)
        after(f"kill -9 of a {what}", tiny, acknowledged)

    steer([], tiny.url, "pause")  # or it might be over
    second = tiny_in(tmp_path / "one", url=tiny.url)  # the same campaign, started twice by mistake
    assert second.run().wait(timeout=300) == 2
    assert f"already run by process {process.pid} on " in tiny.output()
    assert process.poll() is None
    steer([], tiny.url, "resume")

    acknowledged = tiny.observed()
    tiny.one_running(process)
    process.kill()
    process.wait()
    assert until(lambda: not working_for(tiny.folder), 30)  # nobody is left although nobody cleaned up
    tiny.finish()
    counts = law(tiny, calm, acknowledged)
    print(f"kill -9 of the controller: {counts}")
    lost = counts.states.get("failed: worker lost", 0)
    assert 2 <= lost <= 6  # two workers, a supervisor, and what the controller took with it
    assert counts.states.get("failed: crashed") == 1  # the child, which may have been the oracle's own fault


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Daemons]:
    with daemons(tmp_path / "dask") as made:
        yield made


def test_a_cluster_that_outlives_its_controller(
    calm: Decided, cluster: Daemons, server: postgres.Server, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    cluster.worker(TINY_SECONDS="0.5")
    cluster.worker(TINY_SECONDS="0.5")
    cluster.registered()
    tiny = tiny_in(tmp_path / "outliving", f'[cluster]\nscheduler = "{cluster.address}"\n', server.url)
    process = tiny.run()

    def nanny() -> None:
        os.kill(nanny_of(tiny.one_running(process)[1]), signal.SIGKILL)

    def scheduler() -> None:
        tiny.one_running(process)
        cluster.scheduler.kill()

    def stopped() -> None:
        while True:
            attempt, worker = tiny.one_running(process)
            os.kill(worker, signal.SIGSTOP)
            if in_a_call(worker) and (attempt, worker) in tiny.running():
                break
            os.kill(worker, signal.SIGCONT)  # it was about to claim or to answer
        try:
            assert until(lambda: elsewhere(tiny, attempt), 180), tiny.output()
        finally:
            os.kill(worker, signal.SIGCONT)

    def away() -> None:
        tiny.one_running(process)
        server.stop()
        time.sleep(10)
        server.start()

    def restarted(mode: str) -> Callable[[], None]:
        def fault() -> None:
            tiny.one_running(process)
            server.restart(mode)

        return fault

    faults = {
        "SIGSTOP past the lease, SIGCONT": stopped,
        "kill -9 of a nanny": nanny,
        "PostgreSQL away for 10 s": away,
        "kill -9 of the scheduler": scheduler,
        "PostgreSQL restarted, fast": restarted("fast"),
        "PostgreSQL restarted, immediate": restarted("immediate"),
    }
    for stage, (name, fault) in enumerate(faults.items()):
        tiny.reaches(1 + 2 * stage, process)
        acknowledged = tiny.observed()
        fault()
        tiny.reaches(2 + 2 * stage, process)
        after(name, tiny, acknowledged)

    acknowledged = tiny.observed()
    tiny.one_running(process)
    process.kill()
    process.wait()
    running = {attempt for attempt, _ in tiny.running()}
    assert until(lambda: not {attempt for attempt, _ in tiny.running()} & running)
    after("kill -9 of the controller", tiny, acknowledged)
    time.sleep(LEASE)
    tiny.finish()
    cluster.close()
    counts = law(tiny, calm, acknowledged)
    print(f"in the end: {counts}")
    assert counts.states.get("superseded", 0) == 1  # the call that was stopped, and done elsewhere meanwhile
    assert "failed: crashed" not in counts.states  # no fault of the oracle
    for said in ("the scheduler at", "answers again", "database"):
        assert said in " ".join(events(tiny))


def test_a_node_that_kills_several_calls_is_avoided(
    calm: Decided, cluster: Daemons, server: postgres.Server, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    """Two hosts, by their addresses; on one every call kills its worker, which the nanny starts again."""
    cluster.worker(TINY_SECONDS="0.5")
    cluster.worker("--host", "127.0.0.2", TINY_DEADLY="yes")
    cluster.registered()
    tiny = tiny_in(tmp_path / "deadly", f'[cluster]\nscheduler = "{cluster.address}"\n', server.url, heartbeat=PATIENT)
    tiny.finish()
    cluster.close()
    counts = law(tiny, calm)
    print(f"a deadly node: {counts}")
    assert "3 different calls were lost on 127.0.0.2; it is avoided" in " ".join(events(tiny))
    lost = counts.states.get("failed: worker lost", 0)
    assert 3 <= lost <= 5  # what was on its way there when the third came back is lost too
    assert set(counts.states) <= {"finished", "failed: worker lost", "withdrawn"}  # no fault of the oracle


def steer(prefix: list[str], url: str, *words: str) -> str:
    """What a verb says on another host, which knows the campaign by its database alone."""
    command = [*prefix, sys.executable, "-m", "farfield", *words, "--database", url, "--campaign", "tiny"]
    done = subprocess.run(command, env=environment(), cwd="/", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_controller_moves_to_another_host(
    calm: Decided, cluster: Daemons, server: postgres.Server, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    """Its own host is gone, so nobody there can say that it is dead: the lease runs out. A third host steers it."""
    elsewhere, third = another_host("elsewhere"), another_host("third")
    cluster.worker()
    cluster.worker()
    cluster.registered()
    tiny = tiny_in(
        tmp_path / "moving", f'[cluster]\nscheduler = "{cluster.address}"\n', server.url, heartbeat=3 * HEARTBEAT
    )
    process = tiny.run()
    tiny.reaches(3, process)
    acknowledged = tiny.observed()
    tiny.one_running(process)
    process.kill()
    process.wait()
    running = {attempt for attempt, _ in tiny.running()}
    time.sleep(3 * LEASE)
    steer(third, server.url, "pause")  # before it goes on, or it might be over
    process = tiny.run(prefix=elsewhere)
    # the controller, and not only the database, knows of it
    assert until(lambda: "paused" in [kind for kind, _ in events_by_kind(tiny)])
    assert json.loads(steer(third, server.url, "status", "--json"))["state"] == "paused"
    steer(third, server.url, "resume")
    tiny.ended(process)
    cluster.close()
    counts = law(tiny, calm, acknowledged)
    print(f"controller on another host: {counts}")
    assert set(counts.states) <= {"finished", "withdrawn"}  # what ran meanwhile was neither lost nor bought again
    database = tiny.database()
    assert database is not None
    with database.read() as connection:
        hosts = set(connection.scalars(select(schema.worker_session.c.host)))
        states = set(
            connection.scalars(select(schema.attempt.c.state).where(schema.attempt.c.id.in_(running))),
        )
    assert hosts == {"elsewhere", socket.gethostname()}
    assert states <= {"finished"}


def test_a_full_disk_pauses_the_campaign(calm: Decided, tmp_path: Path, tiny_in: Callable[..., Tiny]) -> None:
    with small_disk(tmp_path) as disk:
        tiny = tiny_in(disk / "full", heartbeat=PATIENT, printed=tmp_path / "output.txt")
        process = tiny.run()
        tiny.reaches(3, process)
        acknowledged = tiny.observed()
        fill(disk)
        at = tiny.finished()
        assert until(lambda: any(f" {kind}: " in tiny.output() for kind in ("disk", "database"))), tiny.output()
        time.sleep(8)
        assert process.poll() is None, tiny.output()
        assert tiny.finished() <= at + 2  # what was under way may have found room; nothing was begun
        (disk / "junk").unlink(missing_ok=True)
        tiny.ended(process)
        counts = law(tiny, calm, acknowledged)
        print(f"disk full for 8 s: {counts}")
        said = [kind for kind, _ in events_by_kind(tiny) if kind in ("disk", "database")]
        assert 1 <= len(said) <= 4, events_by_kind(tiny)
        assert set(counts.states) <= {"finished", "failed: worker lost"}  # the oracle's budget is untouched
        tiny.close()


def test_a_clock_that_is_off_by_an_hour(
    calm: Decided, cluster: Daemons, server: postgres.Server, tmp_path: Path, tiny_in: Callable[..., Tiny]
) -> None:
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        absent("faketime", "no libfaketime (Debian: libfaketime)")
    off = {"LD_PRELOAD": str(library), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    cluster.worker(**off)
    cluster.worker(**off | {"FAKETIME": "-1h"})
    cluster.registered()
    tiny = tiny_in(tmp_path / "clock", f'[cluster]\nscheduler = "{cluster.address}"\n', server.url, heartbeat=PATIENT)
    began = time.time()
    tiny.finish()
    cluster.close()
    counts = law(tiny, calm)
    print(f"worker clocks off by an hour: {counts}")
    assert set(counts.states) == {"finished"}
    database = tiny.database()
    assert database is not None
    a = schema.attempt.c
    with database.read() as connection:
        first, last = connection.execute(select(func.min(a.started), func.max(a.ended))).one()
    assert began < first < last < time.time()  # the database's clock alone counts


def test_a_network_that_is_cut_for_twenty_seconds(calm: Decided, tmp_path: Path, tiny_in: Callable[..., Tiny]) -> None:
    with namespace() as (inside, here, cut), daemons(tmp_path / "dask", here) as cluster:
        cluster.worker(prefix=inside)
        cluster.worker(prefix=inside)
        cluster.registered()
        sections = f'[cluster]\nscheduler = "{cluster.address}"\ninsecure = true\n'
        tiny = tiny_in(tmp_path / "cut", sections)
        process = tiny.run()
        tiny.reaches(3, process)
        acknowledged = tiny.observed()
        tiny.one_running(process)
        cut(True)
        time.sleep(20)
        assert process.poll() is None
        cut(False)
        tiny.ended(process)
        cluster.close()
        counts = law(tiny, calm, acknowledged)
        print(f"network cut for 20 s: {counts}")
        assert set(counts.states) <= {"finished", "superseded", "failed: worker lost"}


def elsewhere(tiny: Tiny, attempt: int) -> bool:
    """Whether the calculation of `attempt` has been answered by another."""
    database = tiny.database()
    assert database is not None
    a = schema.attempt
    with database.read() as connection:
        row = connection.scalars(select(a.c.calculation_id).where(a.c.id == attempt)).one()
        query = select(func.count()).where(a.c.calculation_id == row, a.c.state == "finished", a.c.id != attempt)
        return bool(connection.scalars(query).one())


def events_by_kind(tiny: Tiny) -> list[tuple[str, str]]:
    """All events of the campaign."""
    database = tiny.database()
    assert database is not None
    with database.read() as connection:
        rows = connection.execute(select(schema.event.c.kind, schema.event.c.message).order_by(schema.event.c.id))
        return [(r.kind, r.message) for r in rows]


def events(tiny: Tiny) -> list[str]:
    return [f"{kind} {message}" for kind, message in events_by_kind(tiny)]
