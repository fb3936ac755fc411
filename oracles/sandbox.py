"""An oracle in a process of its own, behind a supervisor that leaves nothing running (decisions B3).

One `Sandbox` per worker slot. The oracle's process is started once and answers many calls; after a crash, a time-out or
a memory kill the next call gets a new one. What becomes of a call's files and output: `scratch`.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farfield.errors import OracleCrash, OracleError, OracleTimeout, OracleUnfit
from farfield.oracles import gate
from farfield.oracles.child import decode_answer, encode_call, encode_hello
from farfield.oracles.leftovers import reap_leftovers
from farfield.oracles.scratch import Scratch
from farfield.oracles.supervisor import REPLY, REQUEST

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.oracles.observation import Observations

__all__ = ["Sandbox"]

TAIL = 2000
"""Characters of the oracle's output shown with a failure."""


class Sandbox:
    """Evaluates cells with the oracle `name` made with `parameters`.

    `wall_time` in s bounds one call, `startup` in s the import and construction of the oracle before the first one,
    `memory_mb` the resident memory of the oracle and all it started. `scratch`: folder in which a folder of our own is
    made for working files and the output log, removed by `close`; what is kept of a call goes beside it. Without
    `scratch` nothing is kept. `base`: where relative paths among the parameters count from. One thread calls
    `evaluate`; `cancel` and `close` may come from any. After `close` the next call starts anew.
    """

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        wall_time: float = 3600.0,
        memory_mb: float = 4000.0,
        scratch: str | os.PathLike[str] | None = None,
        *,
        startup: float = 120.0,
        base: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name, self.parameters = name, dict(parameters or {})
        self.wall_time, self.memory_mb = float(wall_time), float(memory_mb)
        self.startup = float(startup)
        self.base = Path(base) if base is not None and Path(base).is_dir() else None
        parent = Path(scratch) if scratch is not None else None
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        # made beside its supervisor, who removes it
        own = Path(tempfile.mkdtemp(prefix="oracle-")) if parent is None else parent / f"oracle-{secrets.token_hex(6)}"
        self._folder = own.resolve()
        self._log = self._folder.with_suffix(".log")  # beside the folder: an oracle may clean its folder
        self._scratch = Scratch(None if parent is None else parent.resolve(), self._log)
        self._calls = 0
        self._last: tuple[Atoms, Observations] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._write = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The supervisor's process id, None before the first call."""
        return self._process.pid if self._process is not None else None

    @property
    def output(self) -> str:
        """The end of what the oracle printed."""
        if not self._log.exists():
            return ""
        with open(self._log, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            return file.read().decode("utf-8", "replace")

    def evaluate(
        self, atoms: Atoms, kinds: Sequence[str], *, call: str | None = None, gated: bool = False
    ) -> Observations:
        """The oracle's answer; through the gate where `gated`. `call` names the call's scratch folder and what is kept.

        Raises OracleTimeout, OracleCrash (crashed, out of memory) or OracleError with the class the oracle named;
        "not converged" where the oracle says so of its answer; "bad answer" when it is, bit for bit, the last answer
        to another cell; "worker lost" when the call was cancelled or the supervisor itself died.
        """
        self._calls += 1
        name = call or f"call-{self._calls}"
        folder = self._folder / name
        self._scratch.begin()
        try:
            observations = self._answer(atoms, tuple(kinds), folder)
            if gated:
                gate.demand(atoms, kinds, observations)
            if self._last is not None and gate.repeated(*self._last, atoms, observations):
                message = "the answer is, bit for bit, that to the last cell; does the program read an old file?"
                raise OracleError(message, failure="bad answer")
        except OracleError as fault:
            if fault.failure == "worker lost":  # cancelled, say: nothing to look for in its files
                self._scratch.dropped(folder)
            else:
                fault.kept = self._scratch.failed(name, folder)
            raise
        self._last = atoms.copy(), observations
        self._scratch.finished(name, folder)
        return observations

    def _answer(self, atoms: Atoms, kinds: tuple[str, ...], folder: Path) -> Observations:
        process = self._start()
        payload = encode_call(atoms, kinds, str(folder))
        try:
            self._send(process, b"C", payload)
            kind, answer = self._receive(process)
        except (BrokenPipeError, EOFError) as error:
            self._end()
            raise OracleError("the oracle's supervisor was lost", failure="worker lost") from error
        except BaseException:
            self._end()  # interrupted between call and answer: the next call must not read this one's answer
            raise
        if kind == b"R":
            try:
                observations = decode_answer(answer)
            except OracleCrash as fault:  # of a program that the oracle ran
                raise OracleCrash(f"{fault}{self._said()}", exitcode=fault.exitcode) from None
            if not observations.converged:
                raise OracleError("the oracle says that its calculation did not converge", failure="not converged")
            return observations
        if kind == b"T":
            facts = json.loads(answer)
            if facts["loading"]:
                text = f"the oracle could not be loaded within {facts['seconds']:g} s; see its import, or this host"
                raise OracleUnfit(text)
            limit = f"{facts['seconds']:g} s"
            raise OracleTimeout(f"the oracle did not answer within {limit} and was killed; raise oracle.wall_time")
        if kind == b"M":
            message = f"the oracle used more than {self.memory_mb:g} MB and was killed; raise oracle.memory"
            raise OracleCrash(message, failure="out of memory")
        if kind == b"K":
            raise OracleError("the call was cancelled", failure="worker lost")
        facts = json.loads(answer)
        raise OracleCrash(_died(facts) + self._said(), exitcode=facts["exitcode"])

    def _said(self) -> str:
        """The last line of its output, as the end of a message."""
        last = [" ".join(line.split()) for line in self.output.splitlines() if line.strip()][-1:]
        return f"; it said: {last[0][:300]}" if last else ""

    def cancel(self) -> None:
        """Kill the running call and all it started; from any thread. The sandbox can be used again."""
        process = self._process
        if process is not None and process.poll() is None:
            try:
                self._send(process, b"K", b"")
            except BrokenPipeError:
                return

    def close(self) -> None:
        """End the oracle and everything it started, and remove its scratch folder."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._log.unlink(missing_ok=True)
        _open.discard(self)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        reap_leftovers()
        _open.add(self)
        settings = {
            "memory_mb": str(self.memory_mb),
            "startup": str(self.startup),
            "log": str(self._log),
            "folder": str(self._folder),
        }
        script = Path(__file__).with_name("supervisor.py")
        command = [
            sys.executable,
            "-I",
            "-S",
            str(script),
            json.dumps(settings),
            sys.executable,
            "-m",
            "farfield.oracles.child",
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=self.base,
            start_new_session=True,
        )
        self._process = process
        try:
            # Through the pipe, not the command line, where every user of the host could read the parameters.
            self._send(process, b"H", encode_hello(self.name, self.parameters))
        except BrokenPipeError:
            return process  # the call that follows fails and says so
        return process

    def _send(self, process: subprocess.Popen[bytes], kind: bytes, payload: bytes) -> None:
        assert process.stdin is not None
        with self._write:
            process.stdin.write(REQUEST.pack(kind, self.wall_time, len(payload)) + payload)
            process.stdin.flush()

    def _receive(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        assert process.stdout is not None
        head = process.stdout.read(REPLY.size)
        if len(head) < REPLY.size:
            raise EOFError
        kind, length = REPLY.unpack(head)
        data = process.stdout.read(length)
        if len(data) < length:
            raise EOFError
        return kind, data

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.returncode < 0:  # it was killed, by us or by others, and could not clean up
            reap_leftovers()


def _died(facts: Mapping[str, Any]) -> str:
    code = facts["exitcode"]
    if facts["why"] != "died":
        return f"the oracle was ended: {facts['why']}"
    if code is not None and code < 0:
        return f"the oracle's process was killed by signal {-code}"
    return f"the oracle's process ended with exit code {code}"


_open: weakref.WeakSet[Sandbox] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for sandbox in list(_open):
        sandbox.close()
