"""Structure files that a campaign file names, read into it: what is stored does not hang on the files any more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farfield.errors import ConfigError, CrystalError

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.service.cells import Host

__all__ = ["inlined", "read_atoms", "read_host"]


def inlined(data: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """`data` with the cells of `host.file` and the parts of `defect.file` in it; paths count from `base`.

    Raises ConfigError where a file and what it stands for are both given, CrystalError for what a file holds.
    """
    out = dict(data)
    host, defect = out.get("host"), out.get("defect")
    if isinstance(host, Mapping) and isinstance(host.get("file"), str) and "cell" not in host:
        out["host"] = _host(host, base)
    if isinstance(defect, Mapping) and isinstance(defect.get("file"), str) and not _parts(defect):
        out["defect"] = _defect(defect, out.get("host", {}), base)
    phases = out.get("references")
    if isinstance(phases, Mapping):
        out["references"] = {s: _phase(s, v, base) if isinstance(v, str) else v for s, v in phases.items()}
    return out


def read_atoms(path: Path) -> Atoms:
    """The last structure of a file. Raises CrystalError for one that is missing or cannot be read."""
    from ase import Atoms as _Atoms
    from ase.io import read
    from ase.io.formats import UnknownFileTypeError

    try:
        atoms = read(path)
    except FileNotFoundError:
        raise CrystalError(f"no structure file {path}; mend its path") from None
    except (UnknownFileTypeError, OSError, ValueError, KeyError, IndexError, AssertionError, SyntaxError) as fault:
        raise CrystalError(f"cannot read the structure in {path}: {fault}; give a file that ASE reads") from None
    if not isinstance(atoms, _Atoms) or len(atoms) == 0 or abs(atoms.cell.volume) < 1e-3:
        raise CrystalError(f"{path} holds no periodic structure; give one with a cell")
    return atoms


def read_host(path: Path) -> Host:
    """The crystal of a file in its conventional cell. Raises CrystalError."""
    from farfield.service.cells.crystal import conventional

    return conventional(read_atoms(path), path.stem)


def _parts(defect: Mapping[str, Any]) -> bool:
    return any(defect.get(k) for k in ("removed", "changed", "added"))


def _host(host: Mapping[str, Any], base: Path) -> dict[str, Any]:
    for key in ("lattice", "species", "c_over_a"):
        if host.get(key) is not None:
            raise ConfigError(f"host.file and host.{key} are both given; the file has it all, take one out", key="host")
    crystal = read_host(base / str(host["file"]))
    sites = [[s, *map(float, x)] for s, x in zip(crystal.symbols, crystal.basis, strict=True)]
    cell = [[float(x) for x in row] for row in crystal.cell]
    return {**host, "lattice": crystal.lattice, "species": list(crystal.species), "cell": cell, "sites": sites}


def _phase(species: Any, file: str, base: Path) -> dict[str, Any]:
    atoms = read_atoms(base / file)
    names = atoms.get_chemical_symbols()
    if set(names) != {species}:
        raise ConfigError(
            f"references.{species}: {file} holds {', '.join(sorted(set(names)))}; give the phase of {species} alone",
            key=f"references.{species}",
        )
    sites = [[s, *map(float, x)] for s, x in zip(names, atoms.get_scaled_positions(), strict=True)]
    return {"file": file, "cell": [[float(x) for x in row] for row in atoms.cell.array], "sites": sites}


def _defect(defect: Mapping[str, Any], host: Any, base: Path) -> dict[str, Any]:
    from farfield.service.campaign.sections import HostSection
    from farfield.service.cells.assignment import assign

    for key in ("kind", "species", "site", "position"):
        if defect.get(key) is not None and (key, defect[key]) not in (("kind", "complex"), ("site", 0)):
            raise ConfigError(
                f"defect.file and defect.{key} are both given; the file has it all, take one out", key="defect"
            )
    found = assign(HostSection.model_validate(host).make(), read_atoms(base / str(defect["file"]))).defect
    return {
        **defect,
        "kind": "complex",
        "removed": [list(s) for s in found.removed if isinstance(s, tuple)],
        "changed": [[*s, name] for s, name in found.changed if isinstance(s, tuple)],
        "added": [[name, *x] for name, x in found.added],
    }
