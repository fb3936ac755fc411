from __future__ import annotations

import numpy as np
from harmonic import HOST, constants
from scipy.optimize import brentq

from farfield.service.cells import Defect, DefectCell, strain_pairs, strained
from farfield.service.estimates import elastic_constants, interpolate
from farfield.service.estimates.dilute import dipole_forces, image_correction
from farfield.service.estimates.virial import full

DIPOLE = np.array([3.0, 3.0, 3.0, 0.0, 0.0, 0.0])


def test_dipole_forces_have_their_moment_and_no_net_force() -> None:
    dipole = np.array([1.0, 2.0, -1.0, 0.3, 0.2, 0.1])
    for position in ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)):
        f = dipole_forces(dipole, HOST, (4, 4, 4), np.array(position))
        r = (HOST.site_fractions((4, 4, 4)) - position) / 4
        r = (r - np.floor(r + 0.5 + 1e-9)) * 4 @ HOST.cell
        assert np.abs(f.sum(axis=0)).max() < 1e-12
        assert np.allclose(f.T @ r, full(dipole), atol=1e-9)


def test_image_correction_falls_as_one_over_the_volume(morse) -> None:  # type: ignore[no-untyped-def]
    C = constants(morse)
    defect = Defect.named(HOST, "vacancy")
    found = {}
    for n in (4, 8):
        cell = DefectCell(HOST, defect, (n, n, n))
        found[n] = image_correction(DIPOLE, cell, interpolate(HOST, C, (4, 4, 4), (n, n, n)))
        assert image_correction(0 * DIPOLE, cell, interpolate(HOST, C, (4, 4, 4), (n, n, n))) == 0.0
    assert found[4] != 0.0
    assert np.isclose(found[4] / found[8], 8.0, rtol=0.05)


def test_elastic_constants_against_the_energy(morse) -> None:  # type: ignore[no-untyped-def]
    a = brentq(lambda a: morse(HOST.with_constant(a).atoms())[2][0], 3.2, 4.2)  # no pressure, so no second order of it
    atoms = HOST.with_constant(a).atoms()
    pairs = [
        (e, morse(strained(atoms, e))[2], morse(strained(atoms, -e))[2])
        for e in strain_pairs(1e-4, 4, np.random.default_rng(0))
    ]
    C = elastic_constants(pairs, atoms.get_volume())
    zero = morse(atoms)[0]

    def second(e: np.ndarray, h: float = 1e-3) -> float:
        up, down = morse(strained(atoms, h * e))[0], morse(strained(atoms, -h * e))[0]
        return float((up - 2 * zero + down) / h**2 / atoms.get_volume())

    shear = np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 0.5
    assert np.isclose(second(np.diag([1.0, -1.0, 0.0])), 2 * (C[0, 0] - C[0, 1]), rtol=1e-4)
    assert np.isclose(second(np.eye(3)), 3 * (C[0, 0] + 2 * C[0, 1]), rtol=1e-4)
    assert np.isclose(second(shear), C[3, 3], rtol=1e-4)
    assert np.isclose(C[3, 3], C[0, 1], rtol=1e-6)  # the Cauchy relation of a pair potential
