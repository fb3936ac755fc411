"""The contract: named checks that any oracle must pass, run by a plug-in author or before the first paid round (A10).

Each check makes a few calls on small changes of one cell and compares numbers that physics makes equal. For an oracle
with numerical noise give wider `Tolerances`; the defaults fit force fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleError
from farfield.oracles import gate
from farfield.oracles.observation import VOIGT, Observations
from farfield.oracles.oracle import Oracle

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CHECKS", "CheckResult", "Tolerances", "run"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tolerances:
    """Largest differences. `force` in eV/Å, `energy` and `virial` in eV per atom."""

    energy: float = 1e-6
    force: float = 1e-4
    virial: float = 1e-4


@dataclass(frozen=True)
class CheckResult:
    """One named check. `passed` is None where the oracle lacks a kind that it needs; `detail` is one line."""

    name: str
    passed: bool | None
    detail: str


class _Probe:
    """The oracle and the cell under test, with the few ways to ask."""

    def __init__(self, oracle: Oracle, atoms: Atoms, tolerances: Tolerances) -> None:
        self.oracle, self.atoms, self.tolerances = oracle, atoms, tolerances

    def ask(self, atoms: Atoms) -> Observations:
        kinds = tuple(k for k in ("E", "F", "V") if k in self.oracle.supports)
        return gate.demand(atoms, kinds, self.oracle.evaluate(atoms, kinds))

    def energy(self, atoms: Atoms) -> float:
        return float(self.ask(atoms).values["E"])

    def differences(self, a: Observations, b: Observations, forces: Array | None = None) -> str | None:
        """The first kind in which `a`, its forces replaced by `forces`, and `b` differ; None where none does."""
        n = len(self.atoms)
        limits = {"E": self.tolerances.energy * n, "F": self.tolerances.force, "V": self.tolerances.virial * n}
        for name in a.values:
            first = forces if name == "F" and forces is not None else a.values[name]
            off = float(np.abs(np.asarray(first) - np.asarray(b.values[name])).max())
            if not off <= limits[name]:
                return f"{name} differs by {off:.3g}, more than {limits[name]:.3g}"
        return None


def _result(fault: str | None, good: str) -> tuple[bool, str]:
    return fault is None, good if fault is None else fault


def _forces(p: _Probe) -> tuple[bool, str]:
    """F is -dE/dx along a random direction of all atoms, by central differences."""
    direction = np.random.default_rng(0).normal(size=(len(p.atoms), 3))
    direction /= np.linalg.norm(direction)
    step = 5e-3
    up, down = p.atoms.copy(), p.atoms.copy()
    up.positions += step * direction
    down.positions -= step * direction
    slope = -(p.energy(up) - p.energy(down)) / (2 * step)
    told = float((np.asarray(p.ask(p.atoms).values["F"]) * direction).sum())
    off, limit = abs(slope - float(told)), p.tolerances.force
    return off <= limit, f"-dE/dx {slope:.6g}, F {told:.6g} eV/Å along a random direction, limit {limit:.3g}"


def _virial(p: _Probe) -> tuple[bool, str]:
    """V is -dE/d(strain) for each Voigt component, by central differences; the shear strains are symmetric."""
    step, told = 1e-3, np.asarray(p.ask(p.atoms).values["V"])
    slopes = []
    for i, j in VOIGT:
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            # Half in each triangle: the slope is then that of the engineering shear, the component of V itself.
            strain[i, j] += 0.5 * sign * step
            strain[j, i] += 0.5 * sign * step
            strained = p.atoms.copy()
            strained.set_cell(p.atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(p.energy(strained))
        slopes.append(-(energies[0] - energies[1]) / (2 * step))
    worst = int(np.abs(np.array(slopes) - told).argmax())
    off, limit = abs(slopes[worst] - float(told[worst])), p.tolerances.virial * len(p.atoms)
    name = ("xx", "yy", "zz", "yz", "xz", "xy")[worst]
    return (
        off <= limit,
        f"worst component {name}: -dE/de {slopes[worst]:.6g}, V {told[worst]:.6g} eV, limit {limit:.3g}",
    )


def _translation(p: _Probe) -> tuple[bool, str]:
    """A shift of all atoms, wrapped into the cell, changes nothing."""
    shifted = p.atoms.copy()
    shifted.positions += [0.37, -0.61, 1.13]
    shifted.wrap()
    return _result(p.differences(p.ask(p.atoms), p.ask(shifted)), "E, F and V of a shifted cell agree")


def _rotation(p: _Probe) -> tuple[bool, str]:
    """Turning cell and atoms turns the forces and the virial with them."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    turned = p.atoms.copy()
    turned.set_cell(p.atoms.cell.array @ turn.T)
    turned.positions = p.atoms.positions @ turn.T
    before, after = p.ask(p.atoms), p.ask(turned)
    values: dict[str, Any] = dict(before.values)
    if "F" in values:
        values["F"] = np.asarray(values["F"]) @ turn.T
    if "V" in values:
        tensor = np.zeros((3, 3))
        for (i, j), v in zip(VOIGT, np.asarray(values["V"]), strict=True):
            tensor[i, j] = tensor[j, i] = v
        tensor = turn @ tensor @ turn.T
        values["V"] = np.array([tensor[i, j] for i, j in VOIGT])
    return _result(p.differences(Observations(values), after), "E, F and V turn with the cell")


def _permutation(p: _Probe) -> tuple[bool, str]:
    """The order of the atoms does not matter; forces follow their atoms."""
    order = np.random.default_rng(2).permutation(len(p.atoms))
    before, after = p.ask(p.atoms), p.ask(p.atoms[order])
    forces = np.asarray(before.values["F"])[order] if "F" in before.values else None
    return _result(p.differences(before, after, forces), "E, F and V do not depend on the order of the atoms")


def _doubled(p: _Probe) -> tuple[bool, str]:
    """Two copies of the cell have twice the energy and the same forces. Not for a fixed mesh: there it is no law."""
    one, two = p.ask(p.atoms), p.ask(p.atoms * (2, 1, 1))
    values: dict[str, Any] = dict(two.values)
    if "E" in values:
        values["E"] = float(values["E"]) / 2
    if "F" in values:
        values["F"] = np.asarray(values["F"])[: len(p.atoms)]  # ASE repeats cell by cell
    if "V" in values:
        values["V"] = np.asarray(values["V"]) / 2
    return _result(p.differences(one, Observations(values)), "the doubled cell is twice the cell")


def _repeatability(p: _Probe) -> tuple[bool, str]:
    """The same cell again, after another one in between, gives the same answer; to the last bit where analytic."""
    first = p.ask(p.atoms)
    other = p.atoms.copy()
    other.positions[0] += 0.05
    p.ask(other)
    again = p.ask(p.atoms)
    if p.oracle.analytic:
        same = all(np.array_equal(first.values[k], again.values[k]) for k in first.values)
        if not same and p.differences(first, again) is None:
            return False, "the answers agree within the tolerances, but an oracle that says analytic repeats every bit"
    return _result(p.differences(first, again), "the same cell gives the same answer")


CHECKS: dict[str, tuple[Callable[[_Probe], tuple[bool, str]], frozenset[str]]] = {
    "F = -dE/dx": (_forces, frozenset("EF")),
    "V = -dE/d(strain)": (_virial, frozenset("EV")),
    "translation": (_translation, frozenset()),
    "rotation": (_rotation, frozenset()),
    "permutation": (_permutation, frozenset()),
    "doubled cell": (_doubled, frozenset()),
    "repeatability": (_repeatability, frozenset()),
}
"""The named checks, each with the kinds that it needs."""


def run(
    oracle: Oracle, atoms: Atoms, *, tolerances: Tolerances | None = None, names: Sequence[str] | None = None
) -> list[CheckResult]:
    """The checks of `names` (default: all) on `atoms`, a small periodic cell off its equilibrium.

    An oracle that raises fails that check with its message. Energies of different meshes do not compare, so the checks
    that change the cell are left out for ``mesh = "fixed"`` where it matters ("doubled cell").
    """
    probe = _Probe(oracle, atoms, tolerances or Tolerances())
    results = []
    for name in names if names is not None else CHECKS:
        check, needs = CHECKS[name]
        if lacking := sorted(needs - set(oracle.supports)):
            results.append(CheckResult(name, None, f"the oracle does not give {', '.join(lacking)}"))
        elif name == "doubled cell" and oracle.mesh != "none":
            results.append(CheckResult(name, None, f"no law for an oracle with the mesh {oracle.mesh!r}"))
        else:
            try:
                passed, detail = check(probe)
            except OracleError as fault:
                passed, detail = False, f"{fault.failure}: {fault}"
            results.append(CheckResult(name, passed, detail))
    return results
