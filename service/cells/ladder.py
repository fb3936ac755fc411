"""The ladder of cell sizes (decisions C7): n^3, (n,n,n+1), (n,n+1,n+1), (n+1)^3 for a cubic host.

The next rung has one more repeat along the direction of smallest height, ties in the order c, b, a. A rung is complete
when its largest over smallest height is at most max(1.15, that of the conventional cell). L is half the smallest
height.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from farfield.service.cells.host import Host

__all__ = [
    "Size",
    "even_cell",
    "first_rung",
    "half_width",
    "heights",
    "is_complete",
    "next_complete",
    "next_rung",
    "reaches",
]

Size = tuple[int, int, int]


def heights(host: Host, size: Size) -> NDArray[np.float64]:
    """Distances between opposite faces of the supercell along a, b, c in Å (3,)."""
    vectors = host.supercell_vectors(size)
    volume = abs(np.linalg.det(vectors))
    normals = np.array([np.cross(vectors[(k + 1) % 3], vectors[(k + 2) % 3]) for k in range(3)])
    return np.asarray(volume / np.linalg.norm(normals, axis=1))


def half_width(host: Host, size: Size) -> float:
    """L, half of the smallest height, Å."""
    return float(heights(host, size).min() / 2)


def is_complete(host: Host, size: Size) -> bool:
    """Whether the rung is as even as the conventional cell allows (a cube, for a cubic host)."""
    h, unit = heights(host, size), heights(host, (1, 1, 1))
    return bool(h.max() / h.min() <= max(1.15, unit.max() / unit.min()) + 1e-9)


def next_rung(host: Host, size: Size) -> Size:
    """The next larger size."""
    h = heights(host, size)
    smallest = h.min() * (1 + 1e-9)
    axis = max(k for k in range(3) if h[k] <= smallest)
    grown = list(size)
    grown[axis] += 1
    return (grown[0], grown[1], grown[2])


def first_rung(host: Host, minimum: float) -> Size:
    """The smallest complete rung with half width of at least `minimum` Å (L0 >= 0.65 r_c, theory.md section 4)."""
    size: Size = (1, 1, 1)
    while half_width(host, size) < minimum or not is_complete(host, size):
        size = next_rung(host, size)
    return size


def reaches(size: Size, target: Size) -> bool:
    """Whether a rung is as large as the target cell in some direction."""
    return any(a >= b for a, b in zip(size, target, strict=True))


def even_cell(host: Host, count: int) -> Size:
    """The supercell of `count` cells per edge: of a conventional cell that is no cube, as many as make every height at
    least `count` times the edge of a cube of its volume."""
    if host.cubic:
        return count, count, count
    n = np.ceil(count * host.volume ** (1 / 3) / heights(host, (1, 1, 1)) - 1e-6).astype(int)
    return int(n[0]), int(n[1]), int(n[2])


def next_complete(host: Host, size: Size) -> Size:
    """The next larger complete rung."""
    size = next_rung(host, size)
    while not is_complete(host, size):
        size = next_rung(host, size)
    return size
