"""Quantum ESPRESSO's pw.x: plane waves and pseudopotentials. Install: ``apt install quantum-espresso
quantum-espresso-data`` (or any pw.x on the PATH). Collinear spin is not offered: cells with moments are refused.

The keywords are pw.x's own, in its units (Ry); what the oracle answers is in eV and Å.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleCrash, OracleError, OracleLoadError
from farfield.oracles.mesh import Mesh, mesh_by_spacing
from farfield.oracles.observation import Observations, virial_from_stress
from farfield.oracles.oracle import MeshRule

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["EspressoOracle"]

RYDBERG, BOHR = 13.605693122994, 0.529177210903
"""eV and Å, CODATA 2018, as pw.x 6.6 and later have them."""

FALLBACKS: tuple[dict[str, Any], ...] = (
    {},
    {"mixing_beta": 0.2, "electron_maxstep": 200},
    {"mixing_beta": 0.1, "mixing_mode": "local-TF", "electron_maxstep": 300, "diagonalization": "cg"},
)
"""Ways to the same answer, tried in turn while the SCF does not converge (decisions A3)."""
FAULTS = (
    "convergence NOT achieved",
    "too many bands are not converged",
    "problems computing cholesky",
    "charge is wrong",
)
OWN = frozenset(
    {"ibrav", "nat", "ntyp", "nspin", "tot_charge", "ecutwfc", "ecutrho", "occupations", "smearing", "degauss", "nbnd"}
)
TAIL = {"mv": 3.5, "gaussian": 3.0, "mp": 3.5, "fd": 12.0}
"""Widths above the Fermi energy at which occupations have fallen to about 1e-5."""
EMPTY = 0.2
"""Least share of empty bands in a metal, pw.x's own; its rule alone cuts the tail of a hot smearing off."""
FREE_ELECTRON = 3.8099821
"""hbar^2 / (2 m_e), eV Å^2."""


class EspressoOracle:
    """Energy, forces and virial of pw.x, with one rule for the k-points of every cell.

    Parameters: `pseudopotentials`, a file for each species, sought in `pseudo_dir`, $ESPRESSO_PSEUDO and the folder
    that comes with the program; `ecutwfc`, `ecutrho` (default 4 ecutwfc) in Ry; `k_spacing` in 1/Å (2 pi included);
    `smearing` ("mv", "gaussian", "mp", "fd", or "none" for an insulator) with `degauss` in Ry; `conv_thr` in Ry per
    atom; `system`, more keys of the namelist &SYSTEM, such as ``{ input_dft = "pbe" }``; `command`, an argv list;
    `threads`, OpenMP threads of one call (default: those of $OMP_NUM_THREADS, which workers set to cluster.cores).
    """

    name = "espresso"
    install = "apt install quantum-espresso quantum-espresso-data"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "settable"
    analytic = False

    def __init__(
        self,
        pseudopotentials: dict[str, str],
        ecutwfc: float,
        k_spacing: float,
        ecutrho: float | None = None,
        smearing: str = "mv",
        degauss: float = 0.02,
        conv_thr: float = 1e-9,
        system: dict[str, Any] | None = None,
        pseudo_dir: str | None = None,
        command: Sequence[str] = ("pw.x",),
        threads: int | None = None,
    ) -> None:
        self.ecutwfc, self.ecutrho = float(ecutwfc), float(ecutrho if ecutrho is not None else 4 * ecutwfc)
        self.k_spacing, self.degauss, self.conv_thr = float(k_spacing), float(degauss), float(conv_thr)
        positive = {"ecutwfc": self.ecutwfc, "k_spacing": self.k_spacing, "conv_thr": self.conv_thr}
        for key, value in positive.items():
            if not (np.isfinite(value) and value > 0):
                raise OracleLoadError(f"oracle 'espresso': {key} is {value}, not a positive number")
        if smearing not in ("mv", "gaussian", "mp", "fd", "none"):
            raise OracleLoadError(f"oracle 'espresso': smearing is {smearing!r}; use mv, gaussian, mp, fd or none")
        if own := sorted(OWN & set(system or {})):
            raise OracleLoadError(f"oracle 'espresso': system sets {', '.join(own)}, which the oracle sets itself")
        if isinstance(command, str) or not command:
            raise OracleLoadError(
                "oracle 'espresso': command is a list of words, such as ['mpirun', '-n', '4', 'pw.x']"
            )
        self.smearing, self.system = smearing, dict(system or {})
        self.command, self.threads = [str(word) for word in command], threads and int(threads)
        self.release = self._release()
        folders = [pseudo_dir, os.environ.get("ESPRESSO_PSEUDO"), *self._shipped()]
        self._files = {s: _found(s, f, [x for x in folders if x]) for s, f in sorted(pseudopotentials.items())}
        self._hashes = {s: hashlib.sha256(p.read_bytes()).hexdigest() for s, p in self._files.items()}
        self._valence = {s: _valence(p) for s, p in self._files.items()}

    def _release(self) -> str:
        """The version that the program prints before it finds its input empty."""
        if shutil.which(self.command[0]) is None:
            raise OracleLoadError(
                f"oracle 'espresso' needs {self.command[0]}, which is not installed: {self.install}, or load its module"
            )
        with tempfile.TemporaryDirectory(prefix="farfield-pw-") as folder:
            try:
                done = subprocess.run(
                    self.command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise OracleLoadError(f"oracle 'espresso': {' '.join(self.command)} does not start: {error}") from error
        found = re.search(rb"Program PWSCF v\.(\S+)", done.stdout)
        if found is None:
            raise OracleLoadError(f"oracle 'espresso': {' '.join(self.command)} is not pw.x; {self.install}")
        return found.group(1).decode()

    def _shipped(self) -> list[str]:
        program = shutil.which("pw.x")
        return [str(Path(program).resolve().parent.parent / "share" / "espresso" / "pseudo")] if program else []

    def check_species(self, symbols: Sequence[str]) -> None:
        """Raise OracleError (input error) for elements without a pseudopotential."""
        if unknown := sorted(set(symbols) - set(self._files)):
            raise OracleError(f"espresso: no pseudopotential is given for {', '.join(unknown)}", failure="input error")

    @staticmethod
    def installed() -> bool:
        """Whether the program is there, as far as can be told without starting it."""
        return shutil.which("pw.x") is not None

    def fingerprint(self) -> Mapping[str, Any]:
        """The release, the hashes of the pseudopotentials and the rule of every setting, never one cell's mesh."""
        return {
            "adapter": "espresso",
            "physics": 2,
            "release": self.release,
            "pseudopotentials": self._hashes,
            "ecutwfc": self.ecutwfc,
            "ecutrho": self.ecutrho,
            "k_spacing": self.k_spacing,
            "mesh": "Gamma-centred",
            "smearing": self.smearing,
            "degauss": self.degauss if self.smearing != "none" else None,
            "conv_thr": self.conv_thr,
            "system": self.system,
        }

    def cost(self, natoms: int) -> float:
        """A guess for a simple metal at a low cut-off."""
        return float(0.5 + 0.005 * natoms**2.2)

    def mesh_of(self, atoms: Atoms) -> Mesh:
        """The Gamma-centred mesh of `atoms`: its own where it carries one, else by `k_spacing`."""
        return mesh_by_spacing(atoms, self.k_spacing)

    def bands(self, atoms: Atoms) -> int | None:
        """Bands up to where the smearing has emptied them, for free electrons of the cell's density; None: pw.x's own.

        Cut off at fewer, energies of cells of different size would not compare (decisions C2) and E would not be the
        functional whose gradient F is.
        """
        if self.smearing == "none":
            return None
        electrons: float = sum(self._valence[s] for s in atoms.get_chemical_symbols())
        fermi: float = FREE_ELECTRON * (3 * np.pi**2 * electrons / atoms.get_volume()) ** (2 / 3)
        share = float((1 + TAIL[self.smearing] * self.degauss * RYDBERG / fermi) ** 1.5)
        return max(math.ceil(electrons / 2 * max(share, 1 + EMPTY)), math.ceil(electrons / 2) + 4)

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E (the free energy where there is smearing), F and V of periodic `atoms`.

        Raises OracleError: "not converged" after all fallbacks, "not supported" for moments, "input error", "crashed".
        """
        self.check_species(atoms.get_chemical_symbols())
        if atoms.has("initial_magmoms") and np.any(atoms.get_initial_magnetic_moments()):
            raise OracleError("espresso: cells with magnetic moments are not supported yet", failure="not supported")
        mesh = self.mesh_of(atoms)
        top = Path(tempfile.mkdtemp(prefix="pw-", dir="."))  # input and output stay where the call fails
        for tried, fallback in enumerate(FALLBACKS):
            folder = top / str(tried)
            folder.mkdir()
            text = self._run(folder, self.input(atoms, kinds, mesh, fallback))
            if not any(fault in text for fault in FAULTS) and "JOB DONE" in text:
                answer = self._answer(text, atoms, kinds, {"mesh": list(mesh), "fallback": tried, **fallback})
                shutil.rmtree(top, ignore_errors=True)
                return answer
            if not any(fault in text for fault in FAULTS):
                raise _failed(text)
        raise OracleError(
            f"pw.x did not converge, nor by any of {len(FALLBACKS) - 1} fallbacks", failure="not converged"
        )

    def input(self, atoms: Atoms, kinds: Sequence[str], mesh: Mesh, fallback: Mapping[str, Any]) -> str:
        """pw.x's input for `atoms` (Å) with the k-points `mesh`; `fallback` goes to &ELECTRONS."""
        species = sorted(set(atoms.get_chemical_symbols()))
        system: dict[str, Any] = {"ibrav": 0, "nat": len(atoms), "ntyp": len(species)}
        system |= {"ecutwfc": self.ecutwfc, "ecutrho": self.ecutrho}
        if self.smearing != "none":
            system |= {"occupations": "smearing", "smearing": self.smearing, "degauss": self.degauss}
            system |= {"nbnd": self.bands(atoms)}
        control = {
            "calculation": "scf",
            "outdir": "./out",
            "pseudo_dir": ".",
            "disk_io": "none",
            "tprnfor": "F" in kinds,
            "tstress": "V" in kinds,
        }
        electrons = {"conv_thr": self.conv_thr * len(atoms), **fallback}
        masses = dict(zip(atoms.get_chemical_symbols(), atoms.get_masses(), strict=True))
        lines = [_namelist("control", control), _namelist("system", {**system, **self.system})]
        lines += [_namelist("electrons", electrons), "ATOMIC_SPECIES"]
        lines += [f"{s} {masses[s]:.6f} {s}.UPF" for s in species]
        lines += ["CELL_PARAMETERS angstrom"] + [" ".join(f"{x:.14f}" for x in row) for row in atoms.cell.array]
        lines += ["ATOMIC_POSITIONS angstrom"]
        for symbol, place in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
            lines.append(symbol + " " + " ".join(f"{x:.14f}" for x in place))
        if mesh == (1, 1, 1):
            lines.append("K_POINTS gamma")  # real wave functions: the same answer in half the time
        else:
            lines += ["K_POINTS automatic", " ".join(str(m) for m in mesh) + " 0 0 0"]
        return "\n".join(lines) + "\n"

    def _run(self, folder: Path, text: str) -> str:
        (folder / "pw.in").write_text(text)
        for symbol, path in self._files.items():
            shutil.copyfile(path, folder / f"{symbol}.UPF")
        threads = self.threads or os.environ.get("OMP_NUM_THREADS", 1)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with open(folder / "pw.out", "wb") as out:
            done = subprocess.run(
                [*self.command, "-in", "pw.in"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                check=False,
            )
        said = (folder / "pw.out").read_text(errors="replace")
        if done.returncode < 0:
            raise OracleCrash(f"pw.x was killed by signal {-done.returncode}", exitcode=done.returncode)
        return said

    def _answer(self, text: str, atoms: Atoms, kinds: Sequence[str], settings: dict[str, Any]) -> Observations:
        values: dict[str, Any] = {}
        energy = re.findall(r"^!\s+total energy\s+=\s+(\S+) Ry", text, re.M)
        if not energy:
            raise OracleError("pw.x printed no energy", failure="bad answer")
        free = float(energy[-1]) * RYDBERG
        zero = free
        entropy = re.findall(r"smearing contrib\. \(-TS\)\s+=\s+(\S+) Ry", text)
        if entropy and self.smearing in ("gaussian", "fd"):  # mv and mp have no term of second order to take out
            zero = free - 0.5 * float(entropy[-1]) * RYDBERG
        if "E" in kinds:
            values["E"] = free
        if "F" in kinds:
            values["F"] = _forces(text, len(atoms))
        if "V" in kinds:
            values["V"] = virial_from_stress(_stress(text), atoms.get_volume())
        points = re.search(r"number of k points=\s*(\d+)", text)
        grid = re.search(r"FFT dimensions:\s*\(\s*(\d+),\s*(\d+),\s*(\d+)\)", text)
        settings["bands"] = self.bands(atoms)
        settings["k_points"] = int(points.group(1)) if points else None
        settings["fft"] = [int(n) for n in grid.groups()] if grid else None
        return Observations(values, energy_zero=zero, settings=settings)


def _found(species: str, name: str, folders: Sequence[str]) -> Path:
    for path in [Path(name), *(Path(folder) / name for folder in folders)]:
        if path.is_file():
            return path.resolve()
    where = ", ".join(folders) or "no folder"
    raise OracleLoadError(f"oracle 'espresso': no pseudopotential {name} for {species} in {where}; set pseudo_dir")


def _valence(path: Path) -> float:
    """The valence electrons of a pseudopotential, from its header in either version of the format."""
    text = path.read_text(errors="replace")
    found = re.search(r"z_valence\s*=\s*[\"']\s*([0-9.eEdD+]+)", text) or re.search(r"([0-9.eEdD+]+)\s+Z valence", text)
    if found is None:
        raise OracleLoadError(f"oracle 'espresso': {path.name} does not tell its valence; is it a UPF file?")
    return float(found.group(1).lower().replace("d", "e"))


def _namelist(name: str, values: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, bool):
            return ".true." if value else ".false."
        return f"'{value}'" if isinstance(value, str) else repr(value)

    return "\n".join([f"&{name.upper()}", *(f"  {k} = {text(v)}" for k, v in values.items()), "/"])


def _failed(text: str) -> OracleError:
    """The error that pw.x names in its own box, or the last line it wrote."""
    found = re.search(r"Error in routine (.+?)\n(.+?)\n", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = f"{found.group(1).strip()} {found.group(2).strip()}" if found else (lines[-1] if lines else "nothing")
    early = "End of self-consistent" not in text and "iteration #" not in text
    return OracleError(f"pw.x failed; it said: {said[:300]}", failure="input error" if found and early else "crashed")


def _forces(text: str, natoms: int) -> NDArray[np.float64]:
    block = text.rpartition("Forces acting on atoms")[2]
    rows = re.findall(r"atom\s+\d+\s+type\s+\d+\s+force =\s+(\S+)\s+(\S+)\s+(\S+)", block)[:natoms]
    if len(rows) != natoms:
        raise OracleError(f"pw.x printed {len(rows)} forces for {natoms} atoms", failure="bad answer")
    return np.array(rows, float) * (RYDBERG / BOHR)


def _stress(text: str) -> NDArray[np.float64]:
    """The stress (3, 3) in eV/Å^3, tension positive; pw.x prints the pressure's sign."""
    block = text.rpartition("total   stress")[2].splitlines()[1:4]
    try:
        rows = np.array([[float(x) for x in line.split()[:3]] for line in block])
    except ValueError:
        rows = np.zeros(0)
    if rows.shape != (3, 3):
        raise OracleError("pw.x printed no stress", failure="bad answer")
    return np.asarray(-0.5 * (rows + rows.T) * (RYDBERG / BOHR**3))
