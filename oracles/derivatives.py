"""The laws about derivatives: F, V and force constants against differences of E and F, and an energy without jumps.

Part of the contract (`laws` has the others). A failure that looks like another unit or sign is named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.observation import VOIGT
from farfield.oracles.probe import SAFETY, Finding, NotJudgedError, Probe

__all__ = ["force_constants", "forces", "no_jumps", "virial"]

Array = NDArray[np.float64]
COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")
HARTREE_BOHR = 0.0194469
"""Ha/bohr in 1 eV/Å."""
GPA = 160.21766
"""GPa in 1 eV/Å^3."""
ALIKE = 0.03
"""Relative misfit up to which an answer counts as a multiple of the right one."""
SPAN, POINTS = 0.05, 41
"""Linear strains of the isotropic path, from -SPAN to SPAN."""
JUMP = 2.5e-3
"""eV per atom: the smallest jump that is a fault. Published tables have smaller ones: W_zhou.eam.alloy 1.7 meV."""
OUTLIER = 30.0
"""Times the median error of the trapezoidal rule, beyond which an interval holds a jump and not mere curvature."""


def forces(p: Probe) -> Finding:
    """F is -dE/dx along a random direction of all atoms, by central differences."""
    direction = np.random.default_rng(0).normal(size=(len(p.atoms), 3))
    direction /= np.linalg.norm(direction)
    step = 1e-3 if p.oracle.analytic else 0.03
    slope = -(p.energy(p.moved(step * direction)) - p.energy(p.moved(-step * direction))) / (2 * step)
    told = float((np.asarray(p.told("F")) * direction).sum())
    limit = p.tolerances.force + SAFETY * (p.noise("E") / step + p.noise("F") * np.sqrt(direction.size))
    off = abs(slope - told)
    units = {
        "the sign is wrong": -1.0,
        "it looks like Ha/bohr": HARTREE_BOHR,
        "it looks like Ry/bohr": 2 * HARTREE_BOHR,
        "it is half of that": 0.5,
        "it is twice that": 2.0,
    }
    hint = _named(np.array([told]), np.array([slope]), units) if off > limit else ""
    text = f"-dE/dx {slope:.6g}, F {told:.6g} eV/Å along a random direction{hint}"
    return Finding(off <= limit, text, off, float(limit), "eV/Å")


def virial(p: Probe) -> Finding:
    """V is -dE/d(strain) for each Voigt component, by central differences; the shear strains are symmetric.

    With plane waves of a fixed cut-off the two differ by the Pulay stress, the same on the three axes. Campaigns
    measure and subtract it (decisions C3): for an oracle with a mesh it is told here, and what is left is judged.
    """
    step = 2e-4 if p.oracle.analytic else 5e-3
    told = np.asarray(p.told("V"), float)
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
    slope = np.array(slopes)
    limit = p.tolerances.virial * len(p.atoms) + SAFETY * (p.noise("E") / step + p.noise("V"))
    meshed = p.oracle.mesh != "none"
    pulay = float((told - slope)[:3].mean()) if meshed else 0.0
    rest = told - slope - pulay * np.array([1, 1, 1, 0, 0, 0])
    k = int(np.abs(rest).argmax())
    off = float(abs(rest[k]))
    hint = _named(_shape(told, meshed), _shape(slope, meshed), _virial_units(p)) if off > limit else ""
    offset = f"; Pulay offset {pulay / len(p.atoms):.3g} eV/atom left out" if meshed else ""
    text = f"worst component {COMPONENTS[k]}: -dE/d(strain) {slope[k]:.6g}, V {told[k]:.6g} eV{offset}{hint}"
    return Finding(off <= limit, text, off, float(limit), "eV")


def force_constants(p: Probe) -> Finding:
    """A column of FC, from forces of one displaced atom, against forces along another direction: d2E/dadb = d2E/dbda.

    The column's product with a random direction v of all atoms equals the change of that atom's force along v.
    """
    step = 0.01 if p.oracle.analytic else 0.02
    e = np.zeros((len(p.atoms), 3))
    e[0] = np.array([0.6, -0.48, 0.64])
    v = np.random.default_rng(7).normal(size=e.shape)
    v /= np.linalg.norm(v)

    def slope(direction: Array) -> Array:
        return -(p.forces(p.moved(step * direction)) - p.forces(p.moved(-step * direction))) / (2 * step)

    column = slope(e)
    here, there = float((column * v).sum()), float((slope(v) * e).sum())
    limit = p.tolerances.force_constant + SAFETY * p.noise("F") / step
    text = f"FC column along a random direction {here:.6g}, from displacements along it {there:.6g} eV/Å^2"
    return Finding(abs(here - there) <= limit, text, abs(here - there), float(limit), "eV/Å^2")


def no_jumps(p: Probe) -> Finding:
    """Along an isotropic strain of +-5 % the energy changes by the work of V alone: no pair is cut off sharply.

    On each interval E(b) - E(a) + (trV(a) + trV(b)) dlns / 2 is the small error of the trapezoidal rule; a jump of E,
    as of a potential that is not zero at its cut-off, stands out of it.
    """
    if not p.oracle.analytic:
        raise NotJudgedError("only for an oracle that declares itself analytic: it takes 41 calls")
    scales = np.exp(np.linspace(-SPAN, SPAN, POINTS))
    energies, traces = [], []
    for scale in scales:
        atoms = p.atoms.copy()
        atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
        answer = p.ask(atoms)
        energies.append(float(p.value(answer, "E")))
        traces.append(float(np.asarray(p.value(answer, "V"))[:3].sum()))
    work = 0.5 * (np.array(traces[1:]) + np.array(traces[:-1])) * np.diff(np.log(scales))
    errors = np.abs(np.diff(energies) + work)
    k = int(errors.argmax())
    limit = max(JUMP * len(p.atoms), OUTLIER * float(np.median(errors)))
    text = f"largest jump of E between isotropic strains, at a scale of {scales[k]:.4f}"
    if errors[k] > limit:
        text += ": a pair is cut off where its energy is not zero; shift or smooth the potential"
    return Finding(bool(errors[k] <= limit), text, float(errors[k]), limit, "eV")


def _shape(v: Array, meshed: bool) -> Array:
    """V, without its mean diagonal where that may be Pulay's offset."""
    return v - v[:3].mean() * np.array([1, 1, 1, 0, 0, 0]) if meshed else v


def _virial_units(p: Probe) -> dict[str, float]:
    volume, n = float(p.atoms.get_volume()), len(p.atoms)
    return {
        "the sign is wrong: V is -volume * stress, positive under compression": -1.0,
        "it looks like -stress in eV/Å^3: multiply by the volume": 1 / volume,
        "it looks like the stress in eV/Å^3: V is -volume * stress": -1 / volume,
        "it looks like a pressure in GPa": GPA / volume,
        "it looks like the stress in GPa": -GPA / volume,
        "it looks like V per atom: V is the cell's": 1 / n,
        "it is half of that": 0.5,
        "it is twice that": 2.0,
    }


def _named(told: Array, right: Array, units: dict[str, float]) -> str:
    """The first of `units`, by their factors, that makes `told` of `right`; nothing where none does."""
    size = float(np.linalg.norm(right))
    for text, factor in units.items():
        if size > 0 and float(np.linalg.norm(told - factor * right)) <= ALIKE * abs(factor) * size:
            return f"; {text}"
    return ""
