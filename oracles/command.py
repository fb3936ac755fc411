"""Any program as an oracle: it is given a cell as extended XYZ and answers with one (decisions B2).

``name = "command"``, ``parameters = { command = ["./label", "{input}", "{output}"], version = "1" }``. The program runs
in a folder of its own and reads what stands for ``{input}``: one frame, 17 digits, Å. It writes one frame of the same
atoms to ``{output}``, with some of

* ``free_energy`` or ``energy``, eV. Where both are given, the first is the one that forces belong to (decisions C1);
* ``forces``, a column of three, eV/Å;
* ``virial`` = -dE/d(strain), eV, total, or ``stress``, eV/Å^3; nine numbers, as everywhere in extended XYZ;
* ``magmoms``, a column, Bohr magnetons; ``converged=F`` when it did not converge.

What it prints is kept with the attempt.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleCrash, OracleError, OracleNotImportable, OracleParameterError
from farfield.oracles.observation import VOIGT, Observations, virial_from_stress
from farfield.oracles.oracle import FAILURES, MeshRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

__all__ = ["CommandOracle", "extended_xyz"]

PLACEHOLDERS = ("{input}", "{output}", "{natoms}", "{kinds}")
INPUT, OUTPUT = "input.xyz", "output.xyz"
MOVED = 1e-4
"""Å: farther from its place an atom of the answer was moved, and the answer is that of another cell."""


class CommandOracle:
    """A program that is run once per cell.

    Parameters: `command`, its argument list, never a shell line; ``{input}``, ``{output}``, ``{natoms}`` and
    ``{kinds}`` (as ``E,F,V``) stand for whole arguments. `version`, yours to change when the answers do. `files` that
    the answers depend on: their contents are part of the fingerprint, and an argument that names one becomes its full
    path. `stress`: ``"tension"`` where a stretched cell has a positive one (as in ASE), else ``"compression"``.
    `failures`: failure classes of exit codes, e.g. ``{ 3 = "not converged" }``; any other but 0 is "crashed".
    `analytic`, `mesh` and `supports` as for ``ase``.
    """

    name = "command"

    def __init__(
        self,
        command: list[str],
        version: str,
        files: list[str] | None = None,
        stress: Literal["tension", "compression"] = "tension",
        failures: dict[str, str] | None = None,
        analytic: bool = False,
        mesh: Literal["none", "fixed"] | None = None,
        supports: frozenset[str] = frozenset("EFV"),
    ) -> None:
        self.command, self.version, self.stress = list(command), version, stress
        self.analytic, self.supports = analytic, frozenset(supports)
        self.mesh: MeshRule = mesh or ("none" if analytic else "fixed")
        self.failures = dict(failures or {})
        _check(self.command, self.failures)
        self._files = {name: Path(name).resolve() for name in files or ()}
        self._hashes = {name: _hash(name, path) for name, path in self._files.items()}
        self._program = _program(self.command[0])

    def fingerprint(self) -> Mapping[str, Any]:
        """The argument list as written, the version, the hashes of the named files, and the sign of the stress."""
        return {
            "adapter": "command",
            "physics": 1,
            "command": self.command,
            "version": self.version,
            "files": self._hashes,
            "stress": self.stress,
        }

    def cost(self, natoms: int) -> float:
        """A guess, since the program is not known: 1 ms per atom for a force field, else 1 s."""
        return (1e-3 if self.analytic else 1.0) * natoms

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """What the program answers for `atoms`; a kind that its output lacks goes to `missing`.

        Raises OracleCrash for a program that ends by a signal or with an exit code other than 0, OracleError with the
        class that `failures` gives the exit code, and "bad answer" for an output that is lacking, unreadable or of
        other atoms. Time and memory are the sandbox's to limit.
        """
        with _folder() as name:
            folder = Path(name)
            (folder / INPUT).write_text(extended_xyz(atoms), encoding="utf-8")
            (folder / OUTPUT).unlink(missing_ok=True)
            code = self._run(folder, len(atoms), kinds)
            if code:
                raise self._failed(code)
            return self._answer(atoms, _read(folder / OUTPUT), kinds)

    def _run(self, folder: Path, natoms: int, kinds: Sequence[str]) -> int:
        values = (str(folder / INPUT), str(folder / OUTPUT), str(natoms), ",".join(kinds))
        meaning = dict(zip(PLACEHOLDERS, values, strict=True)) | {n: str(p) for n, p in self._files.items()}
        argv = [self._program, *(meaning.get(a, a) for a in self.command[1:])]
        try:
            # What it prints goes where our own output goes: in the sandbox that is the log of the call.
            return subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, check=False).returncode
        except OSError as error:
            message = f"{self.command[0]} cannot be run: {error.strerror}; check oracle.parameters.command"
            raise OracleError(message, failure="input error") from error

    def _failed(self, code: int) -> OracleError:
        if code < 0:
            return OracleCrash(f"{self.command[0]} was killed by signal {-code}", exitcode=code)
        failure = self.failures.get(str(code))
        text = f"{self.command[0]} ended with exit code {code}"
        return OracleCrash(text, exitcode=code) if failure is None else OracleError(text, failure=failure)

    def _answer(self, atoms: Atoms, found: Atoms, kinds: Sequence[str]) -> Observations:
        _same(atoms, found)
        given = {**found.info, **found.arrays, **(found.calc.results if found.calc is not None else {})}
        energies = [float(_numbers(k, given[k], ())) for k in ("free_energy", "energy") if k in given]
        values: dict[str, Any] = {}
        if energies:
            values["E"] = energies[0]
        if "forces" in given:
            values["F"] = _numbers("forces", given["forces"], (len(atoms), 3))
        if "virial" in given:
            values["V"] = _voigt("virial", given["virial"])
        elif "stress" in given:
            sign = 1.0 if self.stress == "tension" else -1.0
            values["V"] = virial_from_stress(sign * _voigt("stress", given["stress"]), atoms.get_volume())
        return Observations(
            {k: values[k] for k in kinds if k in values},
            converged=bool(given.get("converged", True)),
            energy_zero=energies[1] if len(energies) > 1 else None,
            moments=_numbers("magmoms", given["magmoms"], (len(atoms),)) if "magmoms" in given else None,
            missing={k: f"not supported: {self.command[0]} wrote none" for k in kinds if k not in values},
        )


def extended_xyz(atoms: Atoms) -> str:
    """One frame with 17 digits, so that a cell survives the way through a file bit for bit."""

    def row(values: Any) -> str:
        return " ".join(f"{float(x):.17g}" for x in values)

    moments = atoms.get_initial_magnetic_moments() if atoms.has("initial_magmoms") else None
    columns = "species:S:1:pos:R:3" + (":initial_magmoms:R:1" if moments is not None else "")
    pbc = " ".join("T" if p else "F" for p in atoms.pbc)
    lines = [str(len(atoms)), f'Lattice="{row(atoms.cell.array.ravel())}" Properties={columns} pbc="{pbc}"']
    for k, (symbol, place) in enumerate(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)):
        lines.append(f"{symbol} {row(place)}" + (f" {row(moments[k : k + 1])}" if moments is not None else ""))
    return "\n".join(lines) + "\n"


def _folder() -> AbstractContextManager[str]:
    """The call's own folder in the sandbox, else one that is removed behind us."""
    given = os.environ.get("FARFIELD_SCRATCH")
    return nullcontext(given) if given else tempfile.TemporaryDirectory(prefix="farfield-command-")


def _check(command: list[str], failures: Mapping[str, str]) -> None:
    if not command or not command[0]:
        raise _wrong("command", "is empty; give the program and its arguments as a list")
    for argument in command[1:]:
        word = argument[1:-1]
        if argument not in PLACEHOLDERS and (
            any(p in argument for p in PLACEHOLDERS) or (argument == f"{{{word}}}" and word.isidentifier())
        ):
            what = f"has the argument {argument!r}; placeholders are whole arguments: {', '.join(PLACEHOLDERS)}"
            raise _wrong("command", what)
    for needed in ("{input}", "{output}"):
        if needed not in command[1:]:
            raise _wrong("command", f"lacks the argument {needed}; the program must learn where its files are")
    for code, failure in failures.items():
        if failure not in FAILURES:
            raise _wrong(f"failures.{code}", f"= {failure!r} is no failure class; use one of {', '.join(FAILURES)}")
        if not code.isdecimal() or code == "0":
            raise _wrong(f"failures.{code}", "is no exit code; use a positive whole number")


def _wrong(key: str, what: str) -> OracleParameterError:
    dotted = f"oracle.parameters.{key}"
    return OracleParameterError(f"oracle 'command': {dotted} {what}", key=dotted)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise OracleNotImportable(
            f"the program {name} of oracle 'command' is not found or cannot be executed; install it, or give its path"
        )
    return str(Path(found).absolute())


def _hash(name: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _wrong("files", f"names {name}, which cannot be read: {error.strerror}; check the path") from error


def _read(path: Path) -> Atoms:
    """The one frame of the answer. Raises OracleError "bad answer"."""
    from ase.io import read

    if not path.exists():
        raise _bad("the program ended without an error and wrote no output")
    try:
        frames = read(path, index=":", format="extxyz")
    except Exception as error:  # the reader of foreign files may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise _bad(f"the program's output is no extended XYZ ({why})") from error
    if len(frames) != 1:
        raise _bad(f"the program's output has {len(frames)} frames; it must have one")
    return cast("Atoms", frames[0])


def _same(atoms: Atoms, found: Atoms) -> None:
    """Refuse the answer for other atoms: the program's order must be ours, and it must not relax."""
    if len(found) != len(atoms):
        raise _bad(f"the program answered for {len(found)} atoms, asked were {len(atoms)}")
    if (found.numbers != atoms.numbers).any():
        raise _bad("the program answered for other species, or in another order")
    off = found.cell.array - atoms.cell.array
    if not np.abs(off).max() <= MOVED:
        raise _bad("the program answered for another cell; it must keep the cell as given")
    steps = (found.positions - atoms.positions) @ np.linalg.inv(atoms.cell.array)
    steps[:, atoms.pbc] -= np.round(steps[:, atoms.pbc])  # it may wrap atoms into the cell
    moved = np.abs(steps @ atoms.cell.array).max()
    if not moved <= MOVED:
        raise _bad(f"the program moved atoms by up to {moved:.3g} Å; it must not relax or reorder them")


def _numbers(name: str, given: Any, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """`given` as numbers of a shape. Raises OracleError "bad answer"."""
    try:
        a = np.asarray(given, float)
    except (TypeError, ValueError):
        raise _bad(f"the {name} is not made of numbers") from None
    if shape is not None and a.shape != shape:
        raise _bad(f"the {name} has the shape {a.shape}, expected {shape}")
    return a


def _voigt(name: str, given: Any) -> NDArray[np.float64]:
    """Six components from a symmetric tensor; ASE's reader has made six of a stress already."""
    a = _numbers(name, given)
    if a.size == 9:
        a = a.reshape(3, 3)
        if not np.abs(a - a.T).max() <= 1e-5 * max(np.abs(a).max(), 1e-3):
            raise _bad(f"the {name} is not symmetric")
        a = np.array([0.5 * (a[i, j] + a[j, i]) for i, j in VOIGT])
    if a.shape != (6,):
        raise _bad(f"the {name} has {a.size} components; it must have nine")
    return a


def _bad(why: str) -> OracleError:
    return OracleError(why, failure="bad answer")
