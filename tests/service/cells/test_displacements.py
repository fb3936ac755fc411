from __future__ import annotations

import numpy as np
import pytest

from farfield.service.cells import ForceConstantCell, Host, Size
from farfield.service.cells.symmetry import operations, to_origin

CRYSTALS = {"fcc": ["Cu"], "bcc": ["Cu"], "diamond": ["Cu"], "rocksalt": ["Cu", "Ag"], "b2": ["Cu", "Ag"]}


def column(host: Host, size: Size, forces, site: int, axis: int, step: float):  # type: ignore[no-untyped-def]
    """One column by brute force, both signs."""
    x = host.positions(size)
    out = []
    for s in (step, -step):
        y = x.copy()
        y[site, axis] += s
        out.append(forces(y))
    return -(out[0] - out[1]) / (2 * step)


@pytest.mark.parametrize("lattice", CRYSTALS)
def test_symmetry_gives_every_column(lattice: str, morse) -> None:  # type: ignore[no-untyped-def]
    host = Host.named(lattice, CRYSTALS[lattice], 3.6 if lattice in ("fcc", "diamond") else 3.4)
    size = (2, 2, 2)
    atoms = host.atoms(size)
    scale = np.where(atoms.numbers == 29, 1.0, 1.3)  # two species really differ

    def forces(x):  # type: ignore[no-untyped-def]
        atoms.positions[:] = x
        f = morse(atoms)[1]
        return f if lattice not in ("rocksalt", "b2") else f + -4.0 * scale[:, None] * 0.1 * wiggle(x)

    x0 = host.positions(size)

    def wiggle(x):  # type: ignore[no-untyped-def]
        return (x - x0) - (x - x0).mean(axis=0)  # an on-site spring per species, with no net force

    cell = ForceConstantCell(host, size)
    assert all(d.mirror is not None for d in cell.displacements)  # one call each (decisions C4)
    C = cell.from_forces(lambda atoms: forces(atoms.positions), 0.01).reshape(-1, 3, host.nb, 3)
    for site in range(host.nb):
        for axis in range(3):
            brute = column(host, size, forces, site, axis, 0.01)
            got = C[:, :, site, axis].copy()
            brute[site] = got[site] = 0.0  # the self term is the sum rule's
            assert np.allclose(got, brute, atol=1e-8)


def test_even_sizes_that_break_the_cube_keep_their_own_symmetry(morse) -> None:  # type: ignore[no-untyped-def]
    host, size = Host.named("fcc", ["Cu"], 3.6), (2, 2, 3)
    atoms = host.atoms(size)

    def forces(x):  # type: ignore[no-untyped-def]
        atoms.positions[:] = x
        return morse(atoms)[1]

    cell = ForceConstantCell(host, size)
    assert len(cell.displacements) == 2  # x and z are no longer alike
    C = cell.from_forces(lambda atoms: forces(atoms.positions), 0.01).reshape(-1, 3, host.nb, 3)
    assert np.allclose(C[:, :, 2, 1], column(host, size, forces, 2, 1, 0.01), atol=1e-8)
    assert np.allclose(C[:, :, 1, 2], column(host, size, forces, 1, 2, 0.01), atol=1e-8)


def test_acoustic_sum_rule_and_symmetry_of_the_matrix(morse) -> None:  # type: ignore[no-untyped-def]
    host, size = Host.named("bcc", ["Cu"], 3.0), (3, 3, 3)
    atoms = host.atoms(size)

    def forces(x):  # type: ignore[no-untyped-def]
        atoms.positions[:] = x
        return morse(atoms)[1]

    C = ForceConstantCell(host, size).from_forces(lambda atoms: forces(atoms.positions), 0.01)
    assert np.abs(C.sum(axis=(0, 1, 2, 3))).max() < 1e-12
    # C(x, b a; b0 a0) = C(-x, b0 a0; b a)
    back = np.roll(C[::-1, ::-1, ::-1], 1, axis=(0, 1, 2))
    assert np.allclose(C, np.transpose(back, (0, 1, 2, 5, 6, 3, 4)), atol=1e-9)


def test_design_rows_difference_like_forces(morse) -> None:  # type: ignore[no-untyped-def]
    host, size = Host.named("fcc", ["Cu"], 3.6), (2, 2, 2)
    cell = ForceConstantCell(host, size)
    d = cell.displacements[0]
    F = morse(cell.displaced(d, 0.01))[1]
    rows = np.stack([F, 2 * F, -F], axis=-1)
    assert np.allclose(cell.column(d, 0.01, [rows])[..., 1], 2 * cell.column(d, 0.01, [F]))


@pytest.mark.parametrize("lattice", CRYSTALS)
def test_operations_map_like_species_on_each_other(lattice: str) -> None:
    host, size = Host.named(lattice, CRYSTALS[lattice], 4.0), (2, 2, 2)
    symbols = np.array(list(host.symbols) * 8)
    found = operations(host, size)
    assert len(found) % 48 == 0
    for g in found[:60]:
        assert sorted(g.image) == list(range(len(symbols)))
        assert (symbols[g.image] == symbols).all()
        assert np.allclose(g.rotation @ g.rotation.T, np.eye(3), atol=1e-10)
        moved = to_origin(g, 5 % host.nb, host, size)
        assert moved.image[5 % host.nb] < host.nb
