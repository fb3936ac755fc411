"""`farfield oracle check`: an oracle against its contract, through the sandbox, before any money is spent."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from ase import Atoms

    from farfield.oracles.contract import CheckResult
    from farfield.oracles.observation import Observations
    from farfield.oracles.oracle import Oracle
    from farfield.oracles.sandbox import Sandbox

__all__ = ["check"]

FAILED = 1
"""Exit code when a check failed."""


def check(
    name: Annotated[
        str,
        typer.Argument(
            help="A name of `farfield oracle list`, a package, package.module:Class, or a campaign file (.toml)."
        ),
    ],
    system: Annotated[
        str | None,
        typer.Option(
            help="Lattice and species such as fcc-Cu or zincblende-SiC, or a structure file.  [default: fcc-Cu]"
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="KEY=VALUE for the oracle, in TOML; repeat for more.")
    ] = None,
    wall_time: Annotated[float, typer.Option(min=0.1, help="Limit of one call, s.")] = 600.0,
    memory: Annotated[float, typer.Option(min=1.0, help="Limit of one call with its children, MB.")] = 4000.0,
    energy: Annotated[float | None, typer.Option(help="Tolerance of energies, eV per atom.")] = None,
    force: Annotated[float | None, typer.Option(help="Tolerance of forces, eV/Å.")] = None,
    virial: Annotated[float | None, typer.Option(help="Tolerance of virials, eV per atom.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check an oracle against the contract: some 40 calls on a small cell, in the sandbox, one line for each check.

    Exit code 0: all passed; 1: a check failed; 2: the oracle cannot be made.
    """
    from dataclasses import replace

    from farfield.oracles import contract, registry
    from farfield.oracles.sandbox import Sandbox

    base: Path | None = None
    if name.endswith(".toml"):
        from farfield.service.cli.opening import open_campaign

        config, oracle = open_campaign(Path(name))
        registered, parameters = config.oracle.name, {**config.oracle.parameters, **_parameters(parameter or ())}
        base, host = config.base, config.make_host()
        atoms, shown = host.atoms(), f"{host.lattice}-{''.join(host.species)}"
        if system is not None:
            atoms, shown = _system(system), system
        elif parameter:
            oracle = registry.load(registered, parameters, base)
    else:
        registered, parameters = registry.find(name), _parameters(parameter or ())
        shown = system or "fcc-Cu"
        atoms, oracle = _system(shown), registry.load(registered, parameters)
    if (refuse := getattr(oracle, "check_species", None)) is not None:
        refuse(sorted(set(atoms.get_chemical_symbols())))
    limits = {k: v for k, v in (("energy", energy), ("force", force), ("virial", virial)) if v is not None}
    tolerances = replace(contract.Tolerances.of(oracle), **limits)
    with Sandbox(registered, parameters, wall_time, memory, base=base) as sandbox:
        if not as_json:
            print(f"{oracle.name} on {shown}, {len(atoms)} atoms\n\n{HEAD}", flush=True)
        results = contract.run(
            _Guarded(oracle, sandbox),
            contract.off_equilibrium(atoms),
            tolerances=tolerances,
            heard=None if as_json else _line,
        )
    failed = [r.name for r in results if r.passed is False]
    if as_json:
        print(json.dumps(_as_json(oracle, shown, len(atoms), results), allow_nan=False))
    else:
        print(f"\nFailed: {', '.join(failed)}." if failed else "\nAll checks passed.")
    raise typer.Exit(FAILED if failed else 0)


class _Guarded:
    """The oracle as it is loaded here, its calls made in the sandbox."""

    def __init__(self, oracle: Oracle, sandbox: Sandbox) -> None:
        self.oracle, self.sandbox = oracle, sandbox
        self.name, self.supports = oracle.name, frozenset(oracle.supports)
        self.mesh, self.analytic = oracle.mesh, oracle.analytic
        self.mesh_of = getattr(oracle, "mesh_of", None)

    def fingerprint(self) -> Mapping[str, Any]:
        return self.oracle.fingerprint()

    def cost(self, natoms: int) -> float:
        return self.oracle.cost(natoms)

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        return self.sandbox.evaluate(atoms, kinds)


def _parameters(given: Sequence[str]) -> dict[str, Any]:
    """Nested parameters from KEY=VALUE; a value that is no TOML is JSON or a text."""
    from farfield.errors import ConfigError

    out: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key.strip()):
            raise ConfigError(f"--parameter {text!r} is not KEY=VALUE; say e.g. -p cutoff=5.0", key=key)
        try:
            parsed = tomllib.loads(f"x = {value}")
        except tomllib.TOMLDecodeError:
            parsed = {"x": _json_or_text(value)}
        at = out
        *tables, last = key.strip().split(".")
        for table in tables:
            at = at.setdefault(table, {})
            if not isinstance(at, dict):
                raise ConfigError(f"--parameter {key.strip()}: {table} is given as a value too; drop one", key=key)
        at[last] = parsed["x"]
    return out


def _json_or_text(value: str) -> Any:
    """A list or table as JSON writes it, else the text itself."""
    if value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value.strip()


def _system(text: str) -> Atoms:
    """The conventional cell of a named crystal, or the structure in a file."""
    from ase.io import read

    from farfield.errors import ConfigError, CrystalError
    from farfield.service.cells import LATTICES, Host

    lattice, _, species = text.partition("-")
    if lattice in LATTICES and species:
        return Host.named(lattice, re.findall(r"[A-Z][a-z]*", species) or [species]).atoms()
    if not Path(text).is_file():
        crystals = ", ".join(LATTICES)
        what = f"--system {text} is neither a crystal such as fcc-Cu (lattices: {crystals}) nor a structure file"
        raise ConfigError(f"{what}; check the name", key="system")
    try:
        atoms = cast("Atoms", read(text))
    except Exception as fault:  # the readers of foreign files may raise anything
        why = f"--system {text} cannot be read as a structure ({type(fault).__name__}: {fault})"
        raise ConfigError(f"{why}; give a file that ASE reads", key="system") from fault
    if not atoms.pbc.all() or abs(atoms.cell.volume) < 1e-6:
        raise CrystalError(f"--system {text} is not periodic in all three directions; give a periodic cell")
    atoms.calc = None
    return atoms


def _as_json(oracle: Oracle, system: str, natoms: int, results: Sequence[CheckResult]) -> dict[str, Any]:
    return {
        "oracle": oracle.name,
        "fingerprint": dict(oracle.fingerprint()),
        "system": system,
        "atoms": natoms,
        "passed": all(r.passed is not False for r in results),
        "checks": [
            {
                "name": r.name,
                "verdict": r.verdict,
                "figure": r.figure if r.figure is None or math.isfinite(r.figure) else None,
                "bound": r.bound,
                "unit": r.unit,
                "detail": r.detail,
            }
            for r in results
        ],
    }


HEAD = f"{'check':<22} {'figure':>9} {'bound':>9} {'unit':<8} verdict"


def _line(r: CheckResult) -> None:
    """A check's line, as soon as it is done: a slow oracle takes hours for all of them."""
    figure, bound = ("" if x is None else f"{x:.2g}" for x in (r.figure, r.bound))
    print(f"{r.name:<22} {figure:>9} {bound:>9} {r.unit:<8} {r.verdict:<8} {r.detail}", flush=True)
