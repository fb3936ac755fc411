"""The fitted surrogate: energies, forces and virials of any cell, fast enough to relax thousands of atoms."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farfield.errors import BasisError
from farfield.oracles.packing import pack, unpack
from farfield.service.surrogate.basis import Basis
from farfield.service.surrogate.curvature import hessian_product
from farfield.service.surrogate.kernels.compiled import contract_rows
from farfield.service.surrogate.kernels.pairs import CLOSEST, Pairs, find_pairs, species_index

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Evaluator", "Surrogate", "warm"]

Array = NDArray[np.float64]


class Surrogate:
    """A basis with coefficients (K,). E(atoms) = rows.energy @ coefficients + the core's (`core`)."""

    def __init__(self, basis: Basis, coefficients: ArrayLike) -> None:
        c = np.array(coefficients, float)
        if c.shape != (basis.size,) or not np.isfinite(c).all():
            raise BasisError(f"{c.shape} coefficients do not fit {basis.size} finite columns; fit the surrogate again")
        c.setflags(write=False)
        self.basis = basis
        self.coefficients = c
        S, B = len(basis.species), len(basis.functions)
        layout = basis.layout
        self._contracted = np.ascontiguousarray(
            c[: S * B].reshape(S, B)[:, layout.owner] * layout.coupling[layout.order]
        )
        self._one_body = c[S * B :]

    def evaluate(self, atoms: Atoms) -> tuple[float, Array, Array]:
        """(E eV, F (N, 3) eV/Å, V (6,) eV) of `atoms`. Raises BasisError for atoms the basis cannot describe."""
        return self.evaluator(atoms.get_chemical_symbols(), np.asarray(atoms.cell), atoms.pbc, skin=0.0)(
            atoms.positions
        )

    def evaluator(self, symbols: Sequence[str], cell: ArrayLike, pbc: ArrayLike = True, skin: float = 0.5) -> Evaluator:
        """A callable positions -> (E, F, V) at fixed `cell` (3, 3) Å that keeps its neighbour list while no atom has
        moved by more than `skin` / 2 (Å)."""
        return Evaluator(self, symbols, cell, pbc, skin)

    def to_bytes(self) -> bytes:
        """A JSON header and the coefficients (`oracles.packing`), bit exact."""
        header = {"format": "farfield surrogate", "version": 1, "basis": self.basis.to_json()}
        return pack(header, {"coefficients": self.coefficients})

    @classmethod
    def from_bytes(cls, data: bytes) -> Surrogate:
        """The surrogate of `to_bytes`. Raises BasisError for foreign or damaged bytes."""
        try:
            header, arrays = unpack(data)
            if header.get("format") != "farfield surrogate" or header.get("version") != 1:
                raise ValueError("not a surrogate of this version")
            return cls(Basis.from_json(header["basis"]), arrays["coefficients"])
        except (ValueError, KeyError, AttributeError) as error:
            if isinstance(error, BasisError):
                raise
            raise BasisError(f"no surrogate could be read ({error}); write the file again") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_bytes` to a file; a file of that name is replaced at once or not at all."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        part.write_bytes(self.to_bytes())
        part.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Surrogate:
        """The surrogate in a file that `save` wrote. Raises BasisError when it is missing or damaged."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BasisError(f"cannot read the surrogate {path}: {error.strerror}; check the path") from error
        return cls.from_bytes(data)


class Evaluator:
    """Evaluates one kind of cell again and again (`Surrogate.evaluator`). `builds` counts neighbour lists made.

    Not to be shared between threads.
    """

    def __init__(
        self, surrogate: Surrogate, symbols: Sequence[str], cell: ArrayLike, pbc: ArrayLike = True, skin: float = 0.5
    ) -> None:
        self.surrogate = surrogate
        self.skin = float(skin)
        self.builds = 0
        self._species = species_index(surrogate.basis, symbols)
        self._cell = np.array(cell, float)
        self._pbc = pbc
        self._pairs: Pairs | None = None
        self._constant = float(np.sum(surrogate._one_body[self._species]))
        self.site_energies: Array = np.zeros(len(self._species))
        """(N,) of the last call, eV, one-body part included."""

    def __call__(self, positions: ArrayLike) -> tuple[float, Array, Array]:
        """(E eV, F (N, 3) eV/Å, V (6,) eV) at `positions` (N, 3) or (3N,), Å."""
        x = np.ascontiguousarray(positions, float).reshape(-1, 3)
        pairs = self._list(x)
        n = len(self._species)
        e, F, V = np.zeros(n), np.zeros((n, 3)), np.zeros(6)
        model = self.surrogate
        layout = model.basis.layout
        shortest = contract_rows(layout, model._contracted, self._species, pairs.ptr, pairs.j, pairs.offset, x, e, F, V)
        if shortest < CLOSEST * model.basis.nearest:
            raise BasisError(f"atoms came within {shortest:.3f} Å of each other; the surrogate left what it knows")
        self.site_energies = e + model._one_body[self._species]
        return float(e.sum()) + self._constant, F, V

    def hessian(self, positions: ArrayLike, points: int = 4) -> Callable[[Array], Array]:
        """v -> H v, eV/Å for v (N, 3) in Å, at `positions`; `points` 2 or 4 evaluations each (`curvature`)."""
        x = np.ascontiguousarray(positions, float).reshape(-1, 3)
        return hessian_product(lambda at: self(at)[1], x, points=points)

    def _list(self, x: Array) -> Pairs:
        """The current list, made anew when an atom has moved by more than half the skin."""
        old = self._pairs
        if old is not None and x.shape == old.positions.shape:
            moved = np.einsum("ij,ij->i", x - old.positions, x - old.positions).max()
            if moved <= (0.5 * self.skin) ** 2:  # false for NaN, which then meets the check below
                return old
        self._pairs = find_pairs(self.surrogate.basis, self._species, x, self._cell, self._pbc, self.skin)
        self.builds += 1
        return self._pairs


def warm(species: str = "Cu") -> None:
    """Compiles the kernels, or loads them from numba's cache, on a cell of two atoms; for the start of a process."""
    from ase import Atoms

    from farfield.service.surrogate.rows import design

    atoms = Atoms([species] * 2, [(0, 0, 0), (1.1, 1.2, 1.3)], cell=(3, 3, 3), pbc=True)
    basis = Basis((species,), 2.5, 2.0, (2, 3, 3))
    design(basis, atoms)
    Surrogate(basis, np.ones(basis.size)).evaluate(atoms)
