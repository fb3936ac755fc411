"""The supervisor of one oracle slot: a script of the standard library alone (decisions B3).

It sits between a worker and the oracle's persistent child process. It is the subreaper of everything the oracle
starts, so nothing escapes it: not a grandchild, not one that called setsid. It kills all of them when a call passes its
wall time or memory, when the worker cancels, and when the worker's end of the pipe closes, however the worker died.

    worker  --(H payload | C wall_time payload | K)-->  supervisor  --(payload)-->  child
    worker  <--(R payload | T | M | X | K)--  supervisor  <--(payload)--  child

Run as ``python -I -S supervisor.py SETTINGS CHILD-COMMAND...``. The worker imports the two frame layouts from here.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time

REQUEST = struct.Struct("<cdQ")
"""Kind (H what to load, C call, K cancel), wall time in s, payload length."""
REPLY = struct.Struct("<cQ")
"""R answer, T timed out (payload: JSON seconds), M out of memory, X child died (payload: JSON), K cancelled."""
FRAME = struct.Struct("<Q")
LIMIT = 128 * 1024 * 1024
LOG_LIMIT, LOG_KEPT = 1024 * 1024, 64 * 1024
TICK = 0.2
"""Seconds between two looks at memory and log while a call runs."""
IDLE_TICK = 1.0
"""The same between calls, when a process that the oracle left behind may still grow."""
KILL_PATIENCE = 5.0
"""Seconds to wait for killed processes to go; one that hangs in the kernel may take longer."""
MARK = "FARFIELD_SUPERVISOR"
"""Environment variable by which all that a supervisor started is known, should it be killed itself (`leftovers`)."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PAGE = os.sysconf("SC_PAGE_SIZE")


class CallEndedError(Exception):
    """A call ended without an answer: reply kind and payload."""

    def __init__(self, kind: bytes, payload: bytes = b"") -> None:
        super().__init__(kind)
        self.kind, self.payload = kind, payload


def descendants(root: int, *, zombies: bool = False) -> list[int]:
    """All processes below `root`, by /proc; zombies only where asked, but always what is below them.

    A process whose main thread has ended shows as a zombie while its other threads live, and keeps its children. The
    scan is not atomic: when a process ends meanwhile, those below it may be overlooked once.
    """
    parents: dict[int, list[int]] = {}
    ended = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z":
                ended.add(int(name))
            parents.setdefault(int(fields[1]), []).append(int(name))
    found, queue = [], [root]
    while queue:
        below = parents.get(queue.pop(), [])
        found += below
        queue += below
    return found if zombies else [pid for pid in found if pid not in ended]


def memory(pids: list[int]) -> int:
    """Sum of their resident memory, bytes."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                total += int(file.read().split()[1]) * PAGE
        except (OSError, IndexError):
            continue
    return total


def kill_all() -> None:
    """SIGKILL every descendant until none is left, and collect them.

    A subreaper without children has no descendants: that, not a scan of /proc, says that none is left.
    """
    deadline = time.monotonic() + KILL_PATIENCE
    while time.monotonic() < deadline:
        for pid in descendants(os.getpid(), zombies=True):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not reap():
            return
        time.sleep(0.005)


def started(pid: int) -> str | None:
    """Start time of a process, ticks since boot; None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def identity(pid: int) -> tuple[str, str, str, str]:
    """Boot id, pid namespace, pid and start time: no two processes share all four."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return boot, os.readlink(f"/proc/{pid}/ns/pid"), str(pid), started(pid) or ""


def clean(folder: str, log: str) -> None:
    """Remove the scratch folder and the log: a worker that was killed cannot."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.remove(log)
    except OSError:
        return  # the oracle may have removed it


def reap(keep: int = 0) -> bool:
    """Collect what has ended, up to the process `keep`, whose exit code is still wanted. Whether children remain."""
    try:
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != keep:
            os.waitpid(ended.si_pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


class Supervisor:
    """One child at a time; `settings` come with the command line as JSON."""

    def __init__(self, command: list[str], settings: dict[str, str]) -> None:
        self.command = command
        self.limit = float(settings["memory_mb"]) * 1024 * 1024
        self.log = settings["log"]
        self.startup = float(settings["startup"])
        self.hello = b""
        self.child: subprocess.Popen[bytes] | None = None
        self.buffer = b""
        self.looked = 0.0

    def serve(self) -> None:
        """Answer calls until the worker's pipe closes."""
        while True:
            self.idle()
            kind, wall_time, payload = self.request()
            if kind == b"H":
                self.hello = payload
            elif kind == b"K":
                self.end()
            else:
                try:
                    reply = (b"R", self.call(payload, wall_time))
                except CallEndedError as end:
                    self.end()
                    reply = (end.kind, end.payload)
                sys.stdout.buffer.write(REPLY.pack(reply[0], len(reply[1])) + reply[1])
                sys.stdout.buffer.flush()

    def idle(self) -> None:
        """Wait for the worker; an oracle that outgrows its memory between calls is ended here."""
        while not select.select([0], [], [], IDLE_TICK if self.child else None)[0]:
            reap(self.child.pid if self.child else 0)
            if memory(descendants(os.getpid())) > self.limit:
                self.end()
            self.trim()

    def end(self) -> None:
        """Kill the child and everything below; the next call starts a new one."""
        kill_all()
        if self.child is not None:
            for pipe in (self.child.stdin, self.child.stdout):
                if pipe is not None:
                    pipe.close()
            self.child.poll()
        self.child = None

    def request(self) -> tuple[bytes, float, bytes]:
        """The worker's next message; ends the process when there is none."""
        head = self.exactly(REQUEST.size)
        kind, wall_time, length = REQUEST.unpack(head)
        return kind, wall_time, self.exactly(length)

    def exactly(self, count: int) -> bytes:
        """`count` bytes of the worker's pipe; when it is closed, everything ends."""
        data = b""
        while len(data) < count:
            part = os.read(0, min(count - len(data), 1 << 20))
            if not part:
                sys.exit(0)  # `main` kills what runs
            data += part
        return data

    def call(self, payload: bytes, wall_time: float) -> bytes:
        """The child's answer to one frame. Raises CallEndedError."""
        if self.child is not None and self.child.poll() is not None:
            self.end()  # it died between two calls
        if self.child is None:
            ready = self.start()
            if ready[:1] != b"+":
                self.end()
                return ready[1:]
        return self.exchange(payload, wall_time)

    def start(self) -> bytes:
        """A new child; its first frame, ``+`` or ``-`` with the reason why the oracle cannot be loaded."""
        self.buffer = b""
        libc = ctypes.CDLL(None, use_errno=True)

        def before_exec() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=before_exec,  # this process has one thread
            )
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        return self.exchange(self.hello, self.startup)

    def exchange(self, payload: bytes, seconds: float) -> bytes:
        """Write one frame to the child and read one back, watching time, memory, the worker and the log."""
        child = self.child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        out = FRAME.pack(len(payload)) + payload
        into, source = child.stdin.fileno(), child.stdout.fileno()
        deadline = time.monotonic() + seconds
        while True:
            frame = self.frame()
            if frame is not None and not out:
                return frame
            left = deadline - time.monotonic()
            if left <= 0:
                raise CallEndedError(b"T", json.dumps({"loading": payload is self.hello, "seconds": seconds}).encode())
            # Before the select: what a child wrote before it ended is then still read. The end of its pipe is no
            # sure sign, since a process it forked may hold the pipe open.
            ended = child.poll() is not None
            readable, writable, _ = select.select(
                [0, source], [into] if out else [], [], 0 if ended else min(TICK, left)
            )
            if 0 in readable:
                kind, _, _ = self.request()
                if kind == b"K":
                    raise CallEndedError(b"K")
            if source in readable:
                part = os.read(source, 1 << 20)
                if not part:
                    self.died()
                self.buffer += part
            elif ended:
                self.died()
            if writable:
                try:
                    out = out[os.write(into, out[: 1 << 16]) :]
                except BrokenPipeError:
                    self.died()
            self.look()

    def look(self) -> None:
        """Every tick: the memory of all descendants, and the size of the log. Raises CallEndedError."""
        now = time.monotonic()
        if now - self.looked >= TICK:
            self.looked = now
            if memory(descendants(os.getpid())) > self.limit:
                raise CallEndedError(b"M")
            self.trim()

    def died(self) -> None:
        """Raise CallEndedError with the child's exit code (negative: the signal)."""
        assert self.child is not None
        try:
            code = self.child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            code = None
        raise CallEndedError(b"X", json.dumps({"exitcode": code, "why": "died"}).encode())

    def frame(self) -> bytes | None:
        """A whole frame out of the buffer, None where it is not complete."""
        if len(self.buffer) < FRAME.size:
            return None
        (length,) = FRAME.unpack_from(self.buffer)
        if length > LIMIT:
            raise CallEndedError(b"X", json.dumps({"exitcode": None, "why": "answer too long"}).encode())
        if len(self.buffer) < FRAME.size + length:
            return None
        frame = self.buffer[FRAME.size : FRAME.size + length]
        self.buffer = self.buffer[FRAME.size + length :]
        return frame

    def trim(self) -> None:
        """Keep the end of a long log; it is open for appending, so cutting it is safe."""
        try:
            if os.path.getsize(self.log) > LOG_LIMIT:
                with open(self.log, "r+b") as file:
                    file.seek(-LOG_KEPT, os.SEEK_END)
                    end = file.read(LOG_KEPT)
                    file.truncate(0)
                    file.seek(0)
                    file.write(end)
        except OSError:
            return  # the oracle may have removed it


def main() -> None:
    """Entry of the script: settings as JSON, then the child's command."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = json.loads(sys.argv[1])
    with contextlib.suppress(OSError):  # not Linux
        os.environ[MARK] = "/".join(identity(os.getpid()))
    try:
        Supervisor(sys.argv[2:], settings).serve()
    except BrokenPipeError:
        sys.exit(0)  # the worker is gone
    finally:
        kill_all()
        clean(settings["folder"], settings["log"])


if __name__ == "__main__":
    main()
