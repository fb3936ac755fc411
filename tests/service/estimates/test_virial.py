from __future__ import annotations

import numpy as np
import pytest

from farfield.oracles.observation import VOIGT
from farfield.service.cells import Defect, DefectCell, Host, strain_pairs, strained
from farfield.service.estimates import eta_v, virial_mismatch
from farfield.service.estimates.anharmonic import invariant_tensors, quadratic_force, stress_mismatch
from farfield.service.estimates.virial import full, piola

RNG = np.random.default_rng(8)
HOST = Host.named("fcc", ["Cu"], 3.6)


class GreenLagrange:
    """W(F) = 1/2 C : E E + 1/6 C3 : E E E per atom with E = (F^T F - 1) / 2: the exact case of decisions C3."""

    def __init__(self, scale: float = 1.0) -> None:
        second, third = invariant_tensors(HOST)
        self.C = scale * sum(c * t for c, t in zip(RNG.normal(size=len(second)), second, strict=True))
        self.C3 = scale * sum(c * t for c, t in zip(RNG.normal(size=len(third)), third, strict=True))

    def energy(self, F: np.ndarray) -> float:
        E = 0.5 * (F.T @ F - np.eye(3))
        cubic = np.einsum("ijklpq,ij,kl,pq", self.C3, E, E, E) / 6
        return float(0.5 * np.einsum("ijkl,ij,kl", self.C, E, E) + cubic)

    def virial(self, F: np.ndarray, natoms: int = 1, h: float = 1e-5) -> np.ndarray:
        out = []
        for a, b in VOIGT:
            e = np.zeros((3, 3))
            e[a, b] += h / 2
            e[b, a] += h / 2
            out.append(-(self.energy((np.eye(3) + e) @ F) - self.energy((np.eye(3) - e) @ F)) / (2 * h))
        return natoms * np.array(out)


def test_cubic_crystals_have_three_second_and_six_third_order_constants() -> None:
    second, third = invariant_tensors(HOST)
    assert (len(second), len(third)) == (3, 6)


def test_piola_is_the_derivative_of_the_energy() -> None:
    w = GreenLagrange()
    for e in strain_pairs(0.05, 3, RNG):
        F, h = np.eye(3) + e, 1e-6
        P = np.zeros((3, 3))
        for a in range(3):
            for b in range(3):
                d = np.zeros((3, 3))
                d[a, b] = h
                P[a, b] = (w.energy(F + d) - w.energy(F - d)) / (2 * h)
        assert np.allclose(piola(w.virial(F, natoms=4), e, 4), P, atol=1e-7)


def test_virial_sign_and_order(morse) -> None:  # type: ignore[no-untyped-def]
    atoms = HOST.atoms((2, 2, 2))
    atoms.positions += 0.05 * RNG.normal(size=atoms.positions.shape)
    h = 1e-5
    for k, (a, b) in enumerate(VOIGT):
        e = np.zeros((3, 3))
        e[a, b] += h / 2
        e[b, a] += h / 2
        slope = (morse(strained(atoms, e))[0] - morse(strained(atoms, -e))[0]) / (2 * h)
        assert np.isclose(morse(atoms)[2][k], -slope, rtol=1e-5, atol=1e-6)
    assert np.array_equal(full(np.arange(6.0))[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], np.arange(6.0))


def test_stress_mismatch_recovers_the_constants() -> None:
    w = GreenLagrange(0.3)
    cells = [(s * e, w.virial(np.eye(3) + s * e, 4)) for e in strain_pairs(0.02, 6, RNG) for s in (1, -1)]
    found = stress_mismatch(HOST, np.zeros(6), cells, 4)
    assert np.allclose(found.second, w.C, atol=1e-5)
    assert np.allclose(found.third, w.C3, atol=1e-2)
    # frame indifference: a pure rotation carries no stress; its part beyond linear order is the linear one, reversed
    t = 0.1
    R = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
    linear = np.einsum("ijkl,kl->ij", found.second, R - np.eye(3))
    assert np.allclose(found.beyond_linear((R - np.eye(3))[None])[0], -linear, atol=1e-10)


def test_even_and_odd_parts() -> None:
    """A linear mismatch is all odd, and eps_V of it is what rotations of the Piola frame leave (C3)."""
    w = GreenLagrange()
    w.C3 = np.zeros_like(w.C3)
    pairs = [(e, w.virial(np.eye(3) + e), w.virial(np.eye(3) - e)) for e in strain_pairs(1e-3, 6, RNG)]
    m = virial_mismatch(np.zeros(6), pairs, 1)
    rms = np.sqrt(
        np.mean([np.linalg.norm(np.einsum("ijkl,kl->ij", w.C, e / np.linalg.norm(e))) ** 2 for e, _, _ in pairs])
    )
    assert np.isclose(m.eps_C, rms, rtol=1e-3)
    assert m.largest >= m.total * 0.999
    nothing = virial_mismatch(np.zeros(6), [(e, np.zeros(6), np.zeros(6)) for e, _, _ in pairs], 1)
    assert nothing.total == 0.0


def test_eta_v_scales_as_t2_says() -> None:
    assert np.isclose(eta_v(0.6, 0.2, 0.3, 4.0), 0.6 * 0.04 / (0.3 * 8.0))


@pytest.mark.parametrize("waves", [(8, 16)])
def test_quadratic_force_against_the_even_part_of_the_true_force(morse, waves) -> None:  # type: ignore[no-untyped-def]
    """The oracle's own quadratic force under a long wave; the discretisation error falls with the wave length."""
    cells = [(s * e, morse(strained(HOST.atoms(), s * e))[2]) for e in strain_pairs(0.02, 6, RNG) for s in (1, -1)]
    stress = stress_mismatch(HOST, morse(HOST.atoms())[2], cells, HOST.nb)
    errors = []
    for n in waves:
        cell = DefectCell(HOST, Defect(changed=((0, "Cu"),)), (n, 2, 2))
        phase = 2 * np.pi * cell.x0[:, 0] / (n * HOST.a)
        u = 0.01 * n * np.stack([np.sin(phase), np.cos(phase), 0.5 * np.sin(phase)], axis=1)
        true = (morse(cell.atoms(u))[1] + morse(cell.atoms(-u))[1]) / 2
        everywhere = np.ones(cell.natoms, bool)
        model = (quadratic_force(stress, cell, u, everywhere) + quadratic_force(stress, cell, -u, everywhere)) / 2
        errors.append(np.linalg.norm(model - true) / np.linalg.norm(true))
    assert errors[0] < 0.3
    assert errors[1] < 0.4 * errors[0]
