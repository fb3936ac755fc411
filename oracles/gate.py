"""The gate: what an answer must satisfy before it is a label (decisions A10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from farfield.oracles.observation import Observations, kind

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["check"]


def check(
    atoms: Atoms,
    kinds: Sequence[str],
    observations: Observations,
    *,
    largest_force: float = 1e3,
    net_force: float = 0.05,
    largest_energy: float = 1e7,
) -> list[str]:
    """The faults of an answer, one sentence each; empty when it may be a label.

    Bounds are plain numbers: `largest_force` in eV/Å, `net_force` the largest component of the mean force in eV/Å,
    `largest_energy` in eV per atom. Kinds that are missing are no fault here; kinds never asked for are.
    """
    faults = []
    n = len(atoms)
    if not observations.converged:
        faults.append("the calculation did not converge")
    for name, value in observations.values.items():
        if name not in kinds:
            faults.append(f"{name} was not asked for")
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            faults.append(f"{name} is not real numbers but {array.dtype}")
            continue
        shape = kind(name).shape_for(n)
        if array.shape != shape:
            faults.append(f"{name} has shape {array.shape}, expected {shape}")
        elif not np.isfinite(array).all():
            faults.append(f"{name} is not finite")
        elif name == "E" and abs(float(array)) > largest_energy * n:
            faults.append(f"E = {float(array):.3g} eV is beyond {largest_energy:.3g} eV per atom")
        elif name == "F":
            if np.abs(array).max() > largest_force:
                faults.append(f"a force of {np.abs(array).max():.3g} eV/Å is beyond {largest_force:.3g} eV/Å")
            elif np.abs(array.mean(axis=0)).max() > net_force:
                faults.append(f"the forces do not sum to zero: mean {np.abs(array.mean(axis=0)).max():.3g} eV/Å")
    return faults
