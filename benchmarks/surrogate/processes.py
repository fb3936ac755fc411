"""What only a fresh process can tell: start times and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bars import Line

IMPORT = "import farfield"
FIRST_ROWS = """
from ase.build import bulk
from farfield.service.surrogate import Basis, design
atoms = bulk("W", a=3.165, cubic=True).repeat(4)
atoms.rattle(0.05)
design(Basis(("W",), 5.0, 2.74, (16, 16, 12)), atoms)
"""
MEMORY = """
import ctypes, json
from pathlib import Path
from ase.build import bulk
from farfield.service.surrogate import Basis, design, warm


def kilobytes(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])


basis = Basis(("W",), 5.0, 2.74, (16, 16, 12))
atoms = bulk("W", a=3.165, cubic=True).repeat(5)
atoms.rattle(0.05)
design(basis, atoms[:2])
ctypes.CDLL(None).malloc_trim(0)  # pages that earlier work has freed must not hide new ones
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is resident now
before = kilobytes("VmHWM")
rows = design(basis, atoms)
after = kilobytes("VmHWM")
output = rows.energy.nbytes + rows.forces.nbytes + rows.virial.nbytes
print(json.dumps({"atoms": len(atoms), "columns": basis.size, "growth": 1024 * (after - before), "output": output}))
"""


def environment() -> dict[str, str]:
    """Ours, one thread, byte code allowed."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME")}
    return kept | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def fresh(code: str) -> tuple[float, float]:
    """CPU and wall time of a new interpreter that runs `code`, s; its own start-up included."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code], env=environment())
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"a fresh process failed with exit code {child.returncode}")
    return used.ru_utime + used.ru_stime, wall


def start_lines(rounds: int) -> Iterator[Line]:
    """`import farfield` and the first rows of a process; the first, uncounted runs fill the caches."""
    for what, code, bar in (
        ("`import farfield` in a new process", IMPORT, 0.5),
        ("first rows call in a new process, byte-compiled packages, warm JIT cache", FIRST_ROWS, 3.5),
    ):
        fresh(code)
        runs = [fresh(code) for _ in range(rounds)]
        cpu, wall = min(c for c, _ in runs), min(w for _, w in runs)
        yield Line(f"{what} (CPU; wall)", f"{cpu:.2f} s; {wall:.2f} s", f"{bar} s", max(cpu, wall) < bar)


def memory_lines() -> Iterator[Line]:
    """Growth of the resident high-water mark during one call, in a new process."""
    if not Path("/proc/self/clear_refs").exists():
        yield Line("peak memory of rows beyond the output, 250 atoms", "not measured: needs Linux's /proc", "20 MB")
        return
    said = subprocess.run([sys.executable, "-c", MEMORY], env=environment(), check=True, capture_output=True, text=True)
    found = json.loads(said.stdout)
    beyond = (found["growth"] - found["output"]) / 1e6
    yield Line(
        f"peak memory of rows beyond the output, W {found['atoms']} atoms, {found['columns']} columns",
        f"{beyond:.1f} MB (output {found['output'] / 1e6:.1f} MB)",
        "20 MB",
        beyond < 20,
    )
