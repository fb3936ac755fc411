"""Lattice types known by name, and first guesses of their constants."""

from __future__ import annotations

from dataclasses import dataclass

from ase.data import atomic_numbers, covalent_radii, reference_states

__all__ = ["HCP", "LATTICES", "Prototype", "guess_lattice_constant", "guess_ratio"]

_FCC = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))


@dataclass(frozen=True)
class Prototype:
    """A cubic lattice type: fractional basis, which species sits where, and the stencil of the D norm.

    `stencil` is the bond cut-off over a: shells 1+2, but shell 1 for fcc (theory.md section 1: the bonds span
    space, connect the lattice and link every pair of sublattices). `nearest` is r_nn / a.
    """

    basis: tuple[tuple[float, float, float], ...]
    species: tuple[int, ...]
    stencil: float
    nearest: float


_DIAMOND = _FCC + tuple((x + 0.25, y + 0.25, z + 0.25) for x, y, z in _FCC)

LATTICES: dict[str, Prototype] = {
    "fcc": Prototype(_FCC, (0, 0, 0, 0), 0.75, 0.5**0.5),
    "bcc": Prototype(((0, 0, 0), (0.5, 0.5, 0.5)), (0, 0), 1.05, 0.75**0.5),
    "diamond": Prototype(_DIAMOND, (0,) * 8, 0.75, 3**0.5 / 4),
    "zincblende": Prototype(_DIAMOND, (0,) * 4 + (1,) * 4, 0.75, 3**0.5 / 4),
    "rocksalt": Prototype(
        (*_FCC, (0.5, 0.5, 0.5), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)), (0,) * 4 + (1,) * 4, 0.75, 0.5
    ),
    "b2": Prototype(((0, 0, 0), (0.5, 0.5, 0.5)), (0, 1), 1.05, 0.75**0.5),
}
"""Cubic lattice types known by name."""

HCP = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 5 / 6, 0.5), (0.0, 1 / 3, 0.5))
"""Fractional sites of hcp in its orthohexagonal cell (a, sqrt(3) a, c): no right angle is lost, so that heights,
minimum images and Fourier grids are those of a box."""


def guess_lattice_constant(lattice: str, species: list[str]) -> float:
    """A first lattice constant in Å: ASE's table for an elemental lattice it lists, else covalent radii."""
    if len(species) == 1:
        state = reference_states[atomic_numbers[species[0]]]
        if state is not None and state.get("symmetry") == lattice and "a" in state:
            return float(str(state["a"]))
    if lattice == "hcp":
        return 2 * float(covalent_radii[atomic_numbers[species[0]]])
    radii = [covalent_radii[atomic_numbers[s]] for s in species]
    bond = 2 * radii[0] if len(radii) == 1 else radii[0] + radii[1]
    return float(bond / LATTICES[lattice].nearest)


def guess_ratio(species: str) -> float:
    """c/a of an hcp element: ASE's table, else that of close-packed spheres."""
    state = reference_states[atomic_numbers[species]]
    if state is not None and state.get("symmetry") == "hcp" and "c/a" in state:
        return float(str(state["c/a"]))
    return float((8 / 3) ** 0.5)
