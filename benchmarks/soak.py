"""Faults at random, for as long as you like: ``python benchmarks/soak.py [MINUTES] [SEED]``.

One tiny campaign after the other, on PostgreSQL and a scheduler that outlives controllers, on a small disk, with a
worker whose clock is an hour off and one in a network of its own; every few seconds something is killed, stopped,
restarted, cut or filled. After each campaign the laws of decision A1 are checked and the counts printed. Needs root.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from daemons import Daemons, below, daemons, nanny_of
from places import fill, namespace, small_disk
from postgres import Server
from tiny import HEARTBEAT, Decided, Tiny, law

PAUSE = 1.0, 6.0
"""Seconds between two faults, the least and the most."""
AT_START = "already run by", "cannot open postgresql", "the database fails"
"""What a controller ends with that is started under the lease of a dead one, or while the database is away."""


OFF = {"FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@dataclass
class Site:
    """A cluster with a campaign on it, and what may happen to them. `cut` the network of a worker, or mend it."""

    tiny: Tiny
    cluster: Daemons
    server: Server
    disk: Path
    cut: Callable[[bool], None]
    rng: random.Random

    def __post_init__(self) -> None:
        self.process = self.tiny.run()

    def faults(self) -> dict[str, Callable[[], None]]:
        """By name."""
        return {
            "controller": self._controller,
            "scheduler": self.cluster.scheduler.kill,
            "worker": lambda: self._kill("worker"),
            "nanny": lambda: self._kill("nanny"),
            "supervisor": lambda: self._kill("supervisor"),
            "child": lambda: self._kill("child"),
            "grandchild": lambda: self._kill("grandchild"),
            "stopped": self._stopped,
            "database, fast": lambda: self.server.restart("fast"),
            "database, immediate": lambda: self.server.restart("immediate"),
            "database, away": self._away,
            "network": self._network,
            "disk": self._disk,
        }

    def keep_running(self) -> bool:
        """Start the controller again where it has died; whether the campaign goes on."""
        code = self.process.poll()
        if code is None:
            return True
        if code == 0:
            return False
        last = self.tiny.output().rpartition("\n")[0].rpartition("\n")[2]
        if code == 2 and any(said in last for said in AT_START):
            time.sleep(HEARTBEAT)
        elif code != -signal.SIGKILL:
            raise RuntimeError(f"exit code {code}\n{self.tiny.output()[-3000:]}")
        self.process = self.tiny.run()
        return True

    def _controller(self) -> None:
        self.process.kill()
        self.process.wait()

    def _kill(self, what: str) -> None:
        for _, worker in self.tiny.running()[:1]:
            try:
                pids = {"worker": [worker], "nanny": [nanny_of(worker)]}.get(what) or below(worker)[what]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                return

    def _stopped(self) -> None:
        for _, worker in self.tiny.running()[:1]:
            try:
                os.kill(worker, signal.SIGSTOP)
                time.sleep(self.rng.uniform(1, 8) * HEARTBEAT)
                os.kill(worker, signal.SIGCONT)
            except ProcessLookupError:
                return

    def _away(self) -> None:
        self.server.stop()
        time.sleep(self.rng.uniform(1, 8))
        self.server.start()

    def _network(self) -> None:
        self.cut(True)
        time.sleep(self.rng.uniform(1, 20))
        self.cut(False)

    def _disk(self) -> None:
        fill(self.disk)
        time.sleep(self.rng.uniform(1, 8))
        (self.disk / "junk").unlink(missing_ok=True)


def campaign(number: int, folder: Path, calm: Decided, rng: random.Random, done: Counter[str]) -> None:
    """One campaign from its start to its end."""
    server = Server()
    clock = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    off = {} if clock is None else {"LD_PRELOAD": str(clock), **OFF}
    place = folder / f"campaign-{number}"
    place.mkdir()
    try:
        with (
            namespace() as (inside, here, cut),
            daemons(folder / f"dask-{number}", here) as cluster,
            small_disk(place) as disk,
        ):
            cluster.worker(TINY_SECONDS="1.0", prefix=inside)
            cluster.worker(TINY_SECONDS="1.0", **off)
            # a child that is killed looks like a crash of the oracle, which is tried three times: give it no such luck
            sections = f'[cluster]\nscheduler = "{cluster.address}"\ninsecure = true\n'
            tiny = Tiny(disk / "tiny", sections, server.url)
            site = Site(tiny, cluster, server, disk, cut, rng)
            children: Counter[str] = Counter()
            while site.keep_running():
                time.sleep(rng.uniform(*PAUSE))
                name = rng.choice([n for n in site.faults() if n != "child" or children["child"] < 2])
                children[name] += 1
                site.faults()[name]()
                done[name] += 1
            cluster.close()
            print(f"campaign {number}: {law(tiny, calm)}", flush=True)
            tiny.close()
    finally:
        server.close()


def main(minutes: float = 10, seed: int = 0) -> int:
    """Soak for so long; the exit code."""
    rng, done = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="farfield-soak-", dir="/tmp") as name:
        folder = Path(name)
        quiet = Tiny(folder / "calm")
        quiet.finish()
        calm = quiet.decided()
        quiet.close()
        end, number = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < end:
            campaign(number, folder, calm, rng, done)
            number += 1
    print(f"{number} campaigns, {sum(done.values())} faults: {dict(done.most_common())}")
    left = subprocess.run(["pgrep", "-f", name], capture_output=True, text=True, check=False).stdout.split()
    print(f"processes left over: {len(left)}")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main(*(float(x) for x in sys.argv[1:2]), *(int(x) for x in sys.argv[2:3])))
