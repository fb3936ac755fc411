from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from farfield.service.cells import ForceConstantCell, Host, NonDiagonalCells, Size, displaced_cells
from farfield.service.cells.nondiagonal import CommensurateCell
from farfield.service.cells.wave_vectors import wave_vectors

CASES: dict[str, Size] = {"fcc": (2, 2, 3), "bcc": (3, 3, 3), "diamond": (2, 2, 2), "b2": (2, 2, 2), "hcp": (2, 1, 2)}


def crystal(lattice: str) -> Host:
    return Host.named(lattice, ["Cu", "Ag"] if lattice == "b2" else ["Cu"], 3.3)


class Springs:
    """Harmonic bonds up to 4.6 Å: exactly linear forces, of another strength on silver; `central` or alike in all
    directions."""

    def __init__(self, central: float = 1.0) -> None:
        self.central = central

    def __call__(self, rest: Atoms, atoms: Atoms) -> np.ndarray:
        from vesin import ase_neighbor_list

        i, j, D = ase_neighbor_list("ijD", rest, 4.6)
        u = atoms.positions - rest.positions
        r = np.linalg.norm(D, axis=1, keepdims=True)
        silver = (atoms.numbers[i] == 47).astype(float) + (atoms.numbers[j] == 47)
        along = np.exp(-r) * (1 + 0.3 * silver[:, None])
        e = D / r
        pull = self.central * along * ((u[j] - u[i]) * e).sum(axis=1, keepdims=True) * e + 0.1 * along * (u[j] - u[i])
        F = np.zeros_like(u)
        np.add.at(F, i, pull)
        return F


def harmonic_constants(cell: ForceConstantCell | NonDiagonalCells, springs: Springs) -> np.ndarray:
    columns = []
    for d in cell.displacements:
        rest = cell.undisplaced(d)
        answers = [springs(rest, cell.displaced(d, s * 0.01)) for s in cell.signs(d)]
        columns.append(cell.column(d, 0.01, answers))
    return cell.assemble(columns)


@pytest.mark.parametrize("lattice", CASES)
def test_small_cells_give_the_supercells_force_constants(lattice: str) -> None:
    host, size = crystal(lattice), CASES[lattice]
    springs = Springs()
    small, whole = NonDiagonalCells(host, size), ForceConstantCell(host, size)
    assert np.allclose(harmonic_constants(small, springs), harmonic_constants(whole, springs), atol=1e-10)
    largest = max(len(small.undisplaced(d)) for d in small.displacements)
    assert largest <= whole.natoms / 2


def test_a_real_potential_agrees_up_to_the_step_squared(morse) -> None:  # type: ignore[no-untyped-def]
    host, size = Host.named("fcc", ["Cu"], 3.6), (2, 2, 2)

    def off(step: float) -> float:
        def forces(atoms: Atoms) -> np.ndarray:
            return np.asarray(morse(atoms)[1])

        a = NonDiagonalCells(host, size).from_forces(forces, step)
        return float(np.abs(a - ForceConstantCell(host, size).from_forces(forces, step)).max())

    assert 0 < off(0.01) < 1e-2
    assert off(0.005) < 0.3 * off(0.01)  # a quarter, as both differ from the derivative by their own h^2


@pytest.mark.parametrize("lattice", CASES)
def test_a_commensurate_cell_is_a_crystal_of_its_own_shape(lattice: str) -> None:
    host = crystal(lattice)
    waves = wave_vectors(host, CASES[lattice])
    per_site = abs(np.linalg.det(host.cell)) / host.nb
    for q in range(0, len(waves), 5):
        cell = CommensurateCell(waves, waves.group(q))
        atoms = cell.atoms()
        assert len(atoms) == len(cell.group) * len(waves.sites)
        assert np.isclose(atoms.get_volume(), per_site * len(atoms))
        # the same crystal: distances to the nearest neighbours are the host's
        from vesin import ase_neighbor_list

        near = np.sort(ase_neighbor_list("ijd", atoms, 1.2 * host.nearest)[2])
        again = np.sort(ase_neighbor_list("ijd", host.atoms(), 1.2 * host.nearest)[2])
        assert np.isclose(near[0], again[0])
        assert len(near) / len(atoms) == len(again) / host.nb
        assert np.isclose(near.sum() / len(atoms), again.sum() / host.nb)
        # and its wave vectors repeat in it
        inverse = atoms.cell.array @ np.linalg.inv(host.cell)
        assert np.allclose(np.exp(2j * np.pi * waves.q[list(cell.group)] @ inverse.T), 1.0)


def test_weighted_columns_sum_to_a_column_of_the_supercell() -> None:
    host, size = crystal("fcc"), (3, 3, 3)
    springs = Springs(central=0.0)  # D_q is then a multiple of 1, and the directions chosen do not matter
    small, whole = NonDiagonalCells(host, size), ForceConstantCell(host, size)
    total = 0.0
    for d in small.displacements:
        rest = small.undisplaced(d)
        c = small.column(d, 0.01, [springs(rest, small.displaced(d, s * 0.01)) for s in small.signs(d)])
        total += float((small.weighted(d, c) ** 2).sum())
    C = harmonic_constants(whole, springs)
    mean = float((C.reshape(-1, 3, host.nb, 3)[:, :, 0] ** 2).sum() / 3)
    assert np.isclose(total, mean)


def test_weights_are_linear_and_keep_what_is_real() -> None:
    small = NonDiagonalCells(crystal("diamond"), (2, 2, 2))
    rng = np.random.default_rng(0)
    for d in small.displacements:
        n = len(small.undisplaced(d))
        a, b = rng.normal(size=(2, n, 3))
        both = small.weighted(d, np.stack([a, b], axis=-1))
        assert np.allclose(both[..., 0] - 2 * both[..., 1], small.weighted(d, a - 2 * b))


def test_both_ways_are_asked_alike() -> None:
    host = crystal("bcc")
    assert isinstance(displaced_cells(host, (3, 3, 3), nondiagonal=True), NonDiagonalCells)
    assert isinstance(displaced_cells(host, (3, 3, 3), nondiagonal=False), ForceConstantCell)
