"""The oracle's own process: loads the oracle once, then answers frames until its pipe closes (decisions B3).

Frames are length-prefixed packing blocks. The oracle is loaded in the sandbox's `base`, so that relative paths among
its parameters count from there; every call works in a scratch folder of its own, which ``FARFIELD_SCRATCH`` names.
The pipe is moved away from file descriptor 1 first, so that whatever an oracle or its libraries print goes to the log
and cannot damage an answer.
"""

from __future__ import annotations

import os
import struct
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np

from farfield.errors import FarfieldError, OracleCrash, OracleError
from farfield.oracles.mesh import KEY, explicit_mesh
from farfield.oracles.observation import Observations
from farfield.oracles.oracle import FAILURES
from farfield.oracles.packing import pack, unpack

__all__ = ["decode_answer", "encode_call", "encode_hello", "main"]

FRAME = struct.Struct("<Q")


def encode_hello(name: str, parameters: Mapping[str, Any]) -> bytes:
    """Which oracle to load. Raises TypeError where JSON cannot carry a parameter."""
    return pack({"name": name, "parameters": dict(parameters)})


def encode_call(atoms: Any, kinds: tuple[str, ...], folder: str) -> bytes:
    """A cell, the kinds asked and the folder to work in, as a packing block."""
    arrays = {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": np.asarray(atoms.pbc),
    }
    if (mesh := explicit_mesh(atoms)) is not None:
        arrays["mesh"] = np.asarray(mesh)
    if atoms.has("initial_magmoms"):
        arrays["magmoms"] = atoms.get_initial_magnetic_moments()
    return pack({"kinds": list(kinds), "folder": folder}, arrays)


def decode_call(data: bytes) -> tuple[Any, tuple[str, ...], str]:
    """The inverse of `encode_call`."""
    from ase import Atoms

    header, arrays = unpack(data)
    atoms = Atoms(numbers=arrays["numbers"], positions=arrays["positions"], cell=arrays["cell"], pbc=arrays["pbc"])
    if "mesh" in arrays:
        atoms.info[KEY] = tuple(int(m) for m in arrays["mesh"])
    if "magmoms" in arrays:
        atoms.set_initial_magnetic_moments(arrays["magmoms"])
    return atoms, tuple(header["kinds"]), str(header["folder"])


def encode_answer(o: Observations) -> bytes:
    """Observations as a packing block; numbers as arrays, so that NaN arrives and is seen by the gate."""
    arrays = {f"value {k}": np.asarray(v) for k, v in o.values.items()}
    if o.energy_zero is not None:
        arrays["energy_zero"] = np.asarray(o.energy_zero, float)
    if o.moments is not None:
        arrays["moments"] = np.asarray(o.moments, float)
    header = {
        "ok": True,
        "converged": bool(o.converged),
        "settings": o.settings,
        "missing": o.missing,
        "seconds": o.seconds,
    }
    return pack(header, arrays)


def decode_answer(data: bytes) -> Observations:
    """The inverse of `encode_answer`. Raises OracleError where the child reports a failure."""
    try:
        header, arrays = unpack(data, limit=1 << 27)
    except ValueError as error:
        raise OracleError(f"the oracle's answer cannot be read: {error}", failure="bad answer") from error
    if not header["ok"]:
        if header["exitcode"] is not None:
            raise OracleCrash(str(header["message"]), exitcode=int(header["exitcode"]))
        raise OracleError(str(header["message"]), failure=str(header["failure"]))
    values: dict[str, Any] = {}
    for name, array in arrays.items():
        if name.startswith("value "):
            values[name[6:]] = float(array) if array.ndim == 0 and array.dtype.kind in "fiu" else array
    zero = arrays.get("energy_zero")
    return Observations(
        values,
        converged=bool(header["converged"]),
        energy_zero=None if zero is None else float(zero),
        moments=arrays.get("moments"),
        settings=header["settings"],
        missing=header["missing"],
        seconds=header["seconds"],
    )


def _failure(failure: str, message: str, exitcode: int | None = None) -> bytes:
    """A failure as an answer; the message becomes one line. `exitcode`: of a program that the oracle ran."""
    if failure not in FAILURES:
        failure = "crashed"
    line = " ".join(message.split())[:1000]
    return pack({"ok": False, "failure": failure, "message": line, "exitcode": exitcode})


def _read(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = os.read(fd, count - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def _frame(fd: int) -> bytes:
    return _read(fd, FRAME.unpack(_read(fd, FRAME.size))[0])


def _send(fd: int, data: bytes) -> None:
    view = memoryview(FRAME.pack(len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


def _evaluate(oracle: Any, data: bytes) -> bytes:
    """One call. Whatever the oracle raises is an answer here: the message and its failure class."""
    atoms, kinds, folder = decode_call(data)
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    os.environ["FARFIELD_SCRATCH"] = folder
    began = time.perf_counter()
    try:
        observations = oracle.evaluate(atoms, kinds)
    except OracleError as error:
        return _failure(error.failure, str(error), getattr(error, "exitcode", None))
    except MemoryError:
        return _failure("out of memory", "the oracle ran out of memory; raise oracle.memory")
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything: it is classified, never swallowed
        traceback.print_exc()  # into the log
        return _failure("crashed", f"{type(error).__name__}: {error}")
    if not isinstance(observations, Observations):
        return _failure("bad answer", f"the oracle answered a {type(observations).__name__}, not Observations")
    observations.seconds = time.perf_counter() - began
    for name in kinds:
        if name not in observations.values:
            observations.missing.setdefault(name, "not supported: the oracle left it out")
    try:
        return encode_answer(observations)
    except (TypeError, ValueError, AttributeError) as error:
        return _failure("bad answer", f"the oracle's answer cannot be sent: {error}")


def main() -> None:
    """Serve frames: the first names the oracle, every other is a call."""
    source, out = os.dup(0), os.dup(1)  # not inherited by what the oracle starts
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    header, _ = unpack(_frame(source))
    from farfield.oracles.registry import load

    try:
        oracle = load(header["name"], header["parameters"])
    except FarfieldError as error:
        _send(out, b"-" + _failure(getattr(error, "failure", "input error"), str(error)))
        return
    _send(out, b"+")
    home = os.open(".", os.O_RDONLY)
    while True:
        answer = _evaluate(oracle, _frame(source))
        os.fchdir(home)  # the call's folder is about to go
        _send(out, answer)


if __name__ == "__main__":
    main()
