"""SLURM on this one host, for as long as a context lasts: munged, slurmctld and slurmd of our own. Needs root.

As a script, ``python tests/support/slurm.py COMMAND...`` runs a command with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
CONFIGURATION = """\
ClusterName=ff
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={control}
SlurmdPort={node}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=5
MinJobAge=10
OverTimeLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why SLURM cannot be started here."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    absent = [p for p in PROGRAMS if shutil.which(p) is None and not Path("/usr/sbin", p).exists()]
    return f"no {', '.join(absent)} (Debian: slurm-wlm, munge)" if absent else None


@contextmanager
def single_node(cpus: int = 2, memory: int = 4000) -> Iterator[None]:
    """SLURM with one node of `cpus` cores and `memory` MB, named by SLURM_CONF; ended with its jobs."""
    folder = Path(tempfile.mkdtemp(prefix="farfield-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    before = os.environ.get("SLURM_CONF")
    daemons: list[subprocess.Popen[bytes]] = []
    path = os.environ["PATH"] + ":/usr/sbin"
    try:
        munge = folder / "munge"
        munge.mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        for owned in (munge, key):
            shutil.chown(owned, "munge", "munge")
        for name in ("state", "spool"):
            (folder / name).mkdir()
        ports = _free_ports(2)
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(host=host, folder=folder, control=ports[0], node=ports[1], cpus=cpus, memory=memory)
        (folder / "slurm.conf").write_text(text, encoding="utf-8")
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")

        def start(*command: str, user: str | None = None) -> None:
            with (folder / f"{command[0]}.out").open("wb") as out:
                daemons.append(
                    subprocess.Popen(
                        [str(shutil.which(command[0], path=path)), *command[1:]],
                        stdout=out,
                        stderr=out,
                        user=user,
                        group=user,
                        extra_groups=[] if user else None,
                        start_new_session=True,
                    )
                )

        start("munged", "--foreground", f"--key-file={key}", f"--socket={munge}/socket", f"--log-file={munge}/log",
              f"--pid-file={munge}/pid", f"--seed-file={munge}/seed", user="munge")  # fmt: skip
        _until(lambda: (munge / "socket").exists(), "munged", folder)
        start("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        start("slurmd", "-D", "-f", str(folder / "slurm.conf"), "-N", host)
        _until(lambda: "idle" in _said("sinfo", "--noheader", "--format=%T"), "slurmctld and slurmd", folder)
        yield
    finally:
        _said("scancel", "--signal=KILL", "--full", "--user=root")
        _said("scancel", "--user=root")
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        if before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def jobs() -> dict[str, str]:
    """Job id -> state, of all jobs that SLURM knows as pending or running."""
    said = _said("squeue", "--noheader", "--format=%A %T").split()
    return dict(zip(said[::2], said[1::2], strict=True))


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _until(true: object, what: str, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        if time.monotonic() > deadline:
            logs = "\n".join(f"{p}: {p.read_text(errors='replace')[-600:]}" for p in folder.glob("*.[lo]*"))
            raise RuntimeError(f"{what} did not start: {logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


if __name__ == "__main__":
    if (why := missing()) is not None:
        sys.exit(f"slurm.py: {why}")
    with single_node():
        sys.exit(subprocess.call(sys.argv[1:]))
