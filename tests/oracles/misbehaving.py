"""Oracles that misbehave, each in one way; loaded by name in the sandbox's child process."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from farfield.errors import OracleError
from farfield.oracles.emt import EMTOracle
from farfield.oracles.observation import Observations

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


class Sound:
    """Answers at once: the number of the call as energy, and zero forces and virial."""

    name = "sound"
    supports = frozenset({"E", "F", "V"})
    mesh = "none"
    analytic = True

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters
        self.calls = 0

    def fingerprint(self) -> Mapping[str, Any]:
        return {"adapter": self.name, "parameters": self.parameters}

    def cost(self, natoms: int) -> float:
        return float(natoms)

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        self.calls += 1
        self.act(atoms)
        n = len(atoms)
        values: dict[str, Any] = {"E": float(self.calls), "F": np.zeros((n, 3)), "V": np.zeros(6)}
        return Observations({k: values[k] for k in kinds}, settings={"pid": os.getpid(), "folder": os.getcwd()})

    def act(self, atoms: Atoms) -> None:
        """What goes wrong before the answer."""


class Segfaulting(Sound):
    def act(self, atoms: Atoms) -> None:
        ctypes.string_at(0)


class Exiting(Sound):
    """Leaves with os._exit when atom 0 is above z = 1 Å."""

    def act(self, atoms: Atoms) -> None:
        if atoms.positions[0, 2] > 1.0:
            print("the licence server said no", file=sys.stderr, flush=True)
            os._exit(7)


class Quitting(Sound):
    def act(self, atoms: Atoms) -> None:
        print("no licence", flush=True)
        os._exit(7)


class ForkedAndGone(Sound):
    """Dies while a process that it forked keeps its pipe open."""

    def act(self, atoms: Atoms) -> None:
        if os.fork() == 0:
            time.sleep(600)
        os._exit(3)


class Delayed(Sound):
    """Takes its time for the second cell, and says in its folder that it has begun."""

    def act(self, atoms: Atoms) -> None:
        if self.calls == 2:
            Path("second").touch()
            time.sleep(600)


class Endless(Sound):
    def act(self, atoms: Atoms) -> None:
        while True:
            pass


class EndlessInC(Sound):
    """Loops in C with the interpreter's lock held: no signal handler of Python ever runs."""

    def act(self, atoms: Atoms) -> None:
        all(itertools.repeat(True))


class Stubborn(Sound):
    """Hangs and ignores every signal that can be ignored."""

    def act(self, atoms: Atoms) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)


class Fleeing(Sound):
    """Hangs in a grandchild of a session of its own, whose parent has gone."""

    def act(self, atoms: Atoms) -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv(SLEEPER[0], SLEEPER)
            os._exit(0)
        time.sleep(600)


class Headless(Sound):
    """Ends its main thread alone: /proc shows a zombie, whose other thread and whose child live on."""

    def act(self, atoms: Atoms) -> None:
        threading.Thread(target=time.sleep, args=(600,)).start()
        subprocess.Popen(SLEEPER, start_new_session=True)
        ctypes.CDLL(None).pthread_exit(None)


class Leaving(Sound):
    """Answers, and leaves a process in a session of its own behind."""

    def act(self, atoms: Atoms) -> None:
        subprocess.Popen(SLEEPER, start_new_session=True)


class Bomb(Sound):
    """Takes a gigabyte, in a grandchild."""

    def act(self, atoms: Atoms) -> None:
        code = (
            "import time\nkept = []\nfor _ in range(50):\n    kept.append(bytearray(b'x' * 20_000_000))\n"
            "    time.sleep(0.01)\ntime.sleep(600)"
        )
        subprocess.run([sys.executable, "-S", "-c", code], check=False)


class Noisy(Sound):
    """Prints through Python, through the C library and from a subprocess, more than the log may hold."""

    def act(self, atoms: Atoms) -> None:
        print("python " * 1000, flush=True)
        os.write(1, b"descriptor\n")
        subprocess.run([sys.executable, "-S", "-c", "print('subprocess ' * 200_000)"], check=True)
        time.sleep(0.3)
        print("the last word", flush=True)


class Raising(Sound):
    def act(self, atoms: Atoms) -> None:
        raise RuntimeError("the basis is\nlinearly dependent")


class Failing(Sound):
    """Raises the failure class that it is given."""

    def act(self, atoms: Atoms) -> None:
        raise OracleError("as asked", failure=str(self.parameters["failure"]))


class Answering(Sound):
    """Answers what is wrong in the way that its parameter `fault` names."""

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Any:
        n = len(atoms)
        fault = self.parameters["fault"]
        if fault == "nan forces":
            return Observations({"E": 0.0, "F": np.full((n, 3), np.nan)})
        if fault == "wrong shape":
            return Observations({"E": 0.0, "F": np.zeros((n + 1, 3))})
        if fault == "nothing":
            return None
        if fault == "objects":
            return Observations({"E": 0.0, "F": np.array([object()] * n)})
        if fault == "not converged":
            return Observations({"E": 0.0, "F": np.zeros((n, 3))}, converged=False)
        if fault == "silent":
            return Observations({"E": 0.0})
        if fault == "one atom too few":
            return Observations({"E": 0.0, "F": np.zeros((n - 1, 3))})
        if fault == "net force":
            return Observations({"E": 0.0, "F": np.ones((n, 3))})
        raise AssertionError(fault)


class Leftover(Sound):
    """Reads the answer of the last call: every second cell gets that of the one before."""

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        self.calls += 1
        if self.calls % 2:
            self.last = _emt(atoms, kinds)
        return self.last


class WrongSign(Sound):
    """EMT with the gradient for the forces."""

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = _emt(atoms, kinds)
        if "F" in answer.values:
            answer.values["F"] = -np.asarray(answer.values["F"])
        return answer


class Lying(Sound):
    """EMT with wrong forces in its first cell of 47 atoms, which is the first verification call on copper."""

    name = "lying"

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = _emt(atoms, kinds)
        if len(atoms) == 47 and "F" in answer.values:
            self.calls += 1
            if self.calls == 1:
                error = np.random.default_rng(1).normal(size=(47, 3))
                answer.values["F"] = answer.values["F"] + 2.0 * (error - error.mean(axis=0))
        return answer


class Spinning(Sound):
    """EMT whose atoms bear 1 mu_B, or 0 and 0.05 eV more, as they start; cells of 47 atoms start at 0 by themselves."""

    name = "spinning"

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        answer = _emt(atoms, kinds)
        given = atoms.get_initial_magnetic_moments() if atoms.has("initial_magmoms") else None
        start = np.full(len(atoms), float(len(atoms) != 47)) if given is None else given
        answer.moments = np.where(start > 0.5, 1.0, 0.0)
        if "E" in answer.values:
            answer.values["E"] = float(answer.values["E"]) + 0.05 * float((1 - answer.moments).sum())
        return answer


class Stressless(Sound):
    """EMT without a virial, though it says that it has one."""

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        return _emt(atoms, [k for k in kinds if k != "V"])


class Writing(Sound):
    """Leaves files behind, prints, and fails when atom 0 is above z = 1 Å."""

    def act(self, atoms: Atoms) -> None:
        with open("density.dat", "wb") as file:
            file.write(bytes(1000))
        print("wrote the density", flush=True)
        if atoms.positions[0, 2] > 1.0:
            raise OracleError("no convergence", failure="not converged")


class Moody(Sound):
    """EMT that misbehaves by the height of atom 0, in 0.01 Å: the number of an entry of `MOODS`, 0 for none."""

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Any:
        mood = MOODS[round(100 * atoms.positions[0, 2])]
        if mood is None:
            return _emt(atoms, kinds)
        kind, parameters = mood
        return kind(**parameters).evaluate(atoms, kinds)


def _emt(atoms: Atoms, kinds: Sequence[str]) -> Observations:
    return EMTOracle().evaluate(atoms, kinds)


class Unloadable(Sound):
    def __init__(self) -> None:
        super().__init__()
        raise ValueError("no such pseudopotential")


class SlowToLoad(Sound):
    def __init__(self) -> None:
        super().__init__()
        time.sleep(600)


class Unsupported(Sound):
    supports = frozenset({"E", "FC"})


class Meshless(Sound):
    mesh = "gamma"


class Unhashable(Sound):
    def fingerprint(self) -> Mapping[str, Any]:
        return {"adapter": "unhashable", "cutoffs": np.ones(3)}


MOODS: tuple[tuple[type[Sound], dict[str, Any]] | None, ...] = (
    None,
    (Segfaulting, {}),
    (Quitting, {}),
    (Endless, {}),
    (EndlessInC, {}),
    (Fleeing, {}),
    (Stubborn, {}),
    (Bomb, {}),
    (Answering, {"fault": "nan forces"}),
    (Answering, {"fault": "wrong shape"}),
    (Answering, {"fault": "one atom too few"}),
    (Stressless, {}),
    (Answering, {"fault": "not converged"}),
    (Noisy, {}),
)
