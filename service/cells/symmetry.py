"""Space-group operations of the host as permutations of a supercell's sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
import spglib.error
from numpy.typing import NDArray

from farfield.errors import CrystalError
from farfield.service.cells.host import Host
from farfield.service.cells.ladder import Size

__all__ = ["Mirror", "Operation", "operations", "space_group", "to_origin"]

spglib.error.OLD_ERROR_HANDLING = False  # errors as exceptions; the old way is deprecated and warns at every call


@dataclass(frozen=True)
class Mirror:
    """x -> R x + t on the sites of one cell: `rotation` (3, 3) Cartesian; site i goes to site `image`[i] (N,), modulo
    the cell."""

    rotation: NDArray[np.float64]
    image: NDArray[np.int64]


@dataclass(frozen=True)
class Operation(Mirror):
    """The same on a supercell; `fractional` (3, 3) is the rotation in conventional-cell coordinates, integers."""

    fractional: NDArray[np.int64]


def space_group(host: Host) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """f -> W f + w in conventional-cell coordinates, centring translations included: (W (3, 3), w (3,)).

    Raises CrystalError where the symmetry cannot be found.
    """
    numbers = [host.species.index(s) + 1 for s in host.symbols]
    try:
        found = spglib.get_symmetry((host.cell.tolist(), host.basis.tolist(), numbers), symprec=1e-5)
    except spglib.error.SpglibError as error:
        raise CrystalError(f"spglib finds no symmetry in the host ({error}); check its basis") from error
    if found is None:
        raise CrystalError("spglib finds no symmetry in the host; check its basis")
    return list(zip(np.asarray(found["rotations"], np.int64), found["translations"], strict=True))


def operations(host: Host, size: Size) -> list[Operation]:
    """All operations of the space group (centring translations included) that map the supercell's lattice to itself.

    Raises CrystalError where the symmetry cannot be found.
    """
    n = np.array(size)
    frac = host.site_fractions(size)
    to_cart = host.cell.T
    out = []
    for W, w in space_group(host):
        if ((W * n[None, :]) % n[:, None]).any():
            continue  # does not keep the supercell
        moved = frac @ W.T + w
        image = _site_index(host, moved, size)
        rotation = to_cart @ W @ np.linalg.inv(to_cart)
        out.append(Operation(np.asarray(rotation, float), image, np.asarray(W, np.int64)))
    return out


def _site_index(host: Host, fractions: NDArray[np.float64], size: Size) -> NDArray[np.int64]:
    """Index of the site at each position (in conventional-cell units, modulo the supercell)."""
    diff = fractions[:, None, :] - host.basis[None]
    cells = np.rint(diff)
    off = np.abs(diff - cells).max(axis=2)
    b = off.argmin(axis=1)
    if off[np.arange(len(b)), b].max() > 1e-4:
        raise CrystalError("a symmetry operation does not map the host's sites on each other")
    c = cells[np.arange(len(b)), b].astype(np.int64) % np.array(size)
    return np.asarray(((c[:, 0] * size[1] + c[:, 1]) * size[2] + c[:, 2]) * host.nb + b, np.int64)


def to_origin(operation: Operation, site: int, host: Host, size: Size) -> Operation:
    """`operation` followed by the lattice translation that brings the image of `site` into the origin cell."""
    n = np.array(size)
    target = int(operation.image[site])
    cell = np.array(np.unravel_index(target // host.nb, size))
    if not cell.any():
        return operation
    b = operation.image % host.nb
    c = np.stack(np.unravel_index(operation.image // host.nb, size), axis=1)
    c = (c - cell) % n
    image = ((c[:, 0] * size[1] + c[:, 1]) * size[2] + c[:, 2]) * host.nb + b
    return Operation(operation.rotation, np.asarray(image, np.int64), operation.fractional)
