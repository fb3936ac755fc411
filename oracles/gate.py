"""The gate: what an answer must satisfy before it is a label (decisions A10).

The bounds are plain numbers with defaults wide enough for any sound calculation: they catch wrong units, wrong signs of
a convention and broken programs, not inaccurate ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleError
from farfield.oracles.observation import KINDS, Observations

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Bounds", "admit", "check", "demand", "repeated"]


NEAREST = 0.4
"""Atoms nearer than this share of the sum of their covalent radii are no cell that a calculation is worth."""
SAME = 1e-5
"""Å: distances that differ by less are those of the same crystal."""


@dataclass(frozen=True)
class Bounds:
    """Largest sizes that an answer may have.

    `energy` and `virial`: eV per atom. `force`: of one component, eV/Å. `net_force`: of one component of the mean
    force, eV/Å; forces of a periodic cell sum to zero, up to the grid of a plane-wave program.
    """

    energy: float = 1e7
    virial: float = 1e3
    force: float = 1e3
    net_force: float = 0.05


def admit(atoms: Atoms) -> None:
    """Refuse an unphysical cell before anything is paid for it.

    Raises OracleError (input error): values that are not finite, a cell without volume, atoms on top of each other.
    """
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list

    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise OracleError("positions or cell are not finite; nothing was calculated", failure="input error")
    if all(atoms.pbc) and abs(np.linalg.det(atoms.cell.array)) < 1e-3 * len(atoms):
        raise OracleError("the cell has next to no volume; nothing was calculated", failure="input error")
    radii = NEAREST * covalent_radii[atoms.numbers]
    if not _may_touch(atoms, 2 * float(radii.max(initial=0.0))):
        return
    i, j, d = neighbor_list("ijd", atoms, radii)
    if d.size:
        at = int(np.argmin(d))
        raise OracleError(
            f"atoms {i[at]} and {j[at]} are {d[at]:.2f} Å apart, no cell to pay for; nothing was calculated",
            failure="input error",
        )


def _may_touch(atoms: Atoms, reach: float) -> bool:
    """Whether two atoms, or an atom and an image, may be nearer than `reach` Å: the quick answer for a sound cell.

    A search tree over the wrapped atoms and the few images within `reach` of a face, which is faster than a list.
    """
    from scipy.spatial import cKDTree

    cell = atoms.cell.complete().array
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    points = atoms.get_scaled_positions(wrap=True)
    for axis in np.flatnonzero(atoms.pbc):
        share = 1.001 * reach / heights[axis]
        if share >= 1:
            return True  # an atom may meet its own image; the neighbour list tells
        for step, near in ((1.0, points[:, axis] <= share), (-1.0, points[:, axis] >= 1 - share)):
            images = points[: len(near)][near].copy()
            images[:, axis] += step
            points = np.concatenate([points, images])
    return bool(cKDTree(points @ cell).query_pairs(reach, output_type="ndarray").size)


def check(atoms: Atoms, kinds: Sequence[str], observations: Observations, bounds: Bounds | None = None) -> list[str]:
    """The faults of an answer to `kinds` for `atoms`, one sentence each; empty when it may be a label.

    A kind that the oracle says is missing is no fault; one that was never asked, or that vanished without a word, is.
    """
    bounds = bounds or Bounds()
    faults = [] if observations.converged else ["the calculation did not converge"]
    for name in kinds:
        if name not in observations.values and name not in observations.missing:
            faults.append(f"{name} was asked and neither answered nor said to be missing")
    for name, value in observations.values.items():
        if name not in kinds or name not in KINDS:
            faults.append(f"{name} was not asked for")
        else:
            fault = _fault(name, value, len(atoms), bounds)
            if fault is not None:
                faults.append(fault)
    return faults


def demand(
    atoms: Atoms, kinds: Sequence[str], observations: Observations, bounds: Bounds | None = None
) -> Observations:
    """`observations` when they pass the gate.

    Raises OracleError: "not converged", "not supported" where nothing was answered, "bad answer" for any other fault.
    """
    if not observations.converged:
        raise OracleError("the oracle says that its calculation did not converge", failure="not converged")
    if faults := check(atoms, kinds, observations, bounds):
        raise OracleError("; ".join(faults), failure="bad answer")
    if not observations.values:
        why = "; ".join(f"{k}: {reason}" for k, reason in observations.missing.items())
        raise OracleError(why or "the oracle answered nothing", failure="not supported")
    return observations


def repeated(atoms: Atoms, observations: Observations, other: Atoms, others: Observations) -> bool:
    """Whether two cells have the same answer bit for bit and are not the same crystal (decisions A10).

    The same crystal has the same distances between the same species, so translated, turned, permuted and
    symmetry-equivalent cells are. Answers that are zero throughout tell nothing.
    """
    shared = [k for k in observations.values if k in others.values]
    pairs = [(np.asarray(observations.values[k]), np.asarray(others.values[k])) for k in shared]
    if not any(a.any() for a, _ in pairs) or not all(np.array_equal(a, b) for a, b in pairs):
        return False
    here, there = _distances(atoms), _distances(other)
    return here.shape != there.shape or bool(np.abs(here - there).max(initial=0.0) > SAME)


def _distances(atoms: Atoms, cutoff: float = 6.0371) -> NDArray[np.float64]:
    """(pairs, 3): the species and the distance of all pairs within `cutoff` Å, in order."""
    from ase.neighborlist import neighbor_list

    i, j, d = neighbor_list("ijd", atoms, cutoff)
    found = np.column_stack([atoms.numbers[i], atoms.numbers[j], np.round(d, 6)])
    return found[np.lexsort(found.T[::-1])].astype(float)


def _fault(name: str, value: Any, natoms: int, bounds: Bounds) -> str | None:
    array: NDArray[Any] = np.asarray(value)
    shape = KINDS[name].shape_for(natoms)
    if array.dtype.kind not in "fiu":
        return f"{name} is not real numbers but {array.dtype}"
    if array.shape != shape:
        return f"{name} has shape {array.shape}, expected {shape}"
    if not np.isfinite(array).all():
        return f"{name} is not finite"
    size = float(np.abs(array).max())
    if name == "F":
        mean = float(np.abs(array.mean(axis=0)).max())
        if size > bounds.force:
            return f"a force of {size:.3g} eV/Å is beyond {bounds.force:.3g} eV/Å"
        if mean > bounds.net_force:
            return f"the forces do not sum to zero: mean {mean:.3g} eV/Å, more than {bounds.net_force:.3g} eV/Å"
        return None
    bound = bounds.energy if name == "E" else bounds.virial
    if size > bound * natoms:
        return f"{name} = {size:.3g} eV is beyond {bound:.3g} eV per atom"
    return None
