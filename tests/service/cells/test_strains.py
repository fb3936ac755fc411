"""Sublattices, shifts, and the weight of an internal force against a virial."""

from __future__ import annotations

import numpy as np
import pytest

from farfield.service.cells import Host, random_shifts, shift_scale, sublattices

HOSTS = {
    "fcc": Host.named("fcc", ["Cu"], 3.6),
    "bcc": Host.named("bcc", ["Fe"], 2.9),
    "diamond": Host.named("diamond", ["Si"], 5.4),
    "rocksalt": Host.named("rocksalt", ["Mg", "O"], 4.2),
    "b2": Host.named("b2", ["Cu", "Zn"], 2.95),
}
MULTI = ["diamond", "rocksalt", "b2"]


@pytest.mark.parametrize("lattice", HOSTS)
def test_sublattices_are_the_sites_of_the_primitive_cell(lattice: str) -> None:
    host = HOSTS[lattice]
    label = np.array(sublattices(host))
    assert label.max() + 1 == (2 if lattice in MULTI else 1)
    assert len(set(np.bincount(label))) == 1
    if not host.elemental:
        assert len({(s, k) for s, k in zip(host.symbols, label, strict=True)}) == 2


@pytest.mark.parametrize("lattice", HOSTS)
def test_shifts_move_whole_sublattices_by_what_was_asked(lattice: str) -> None:
    host = HOSTS[lattice]
    p, label = random_shifts(host, 0.03, np.random.default_rng(1)), np.array(sublattices(host))
    assert np.abs(p.sum(axis=0)).max() < 1e-8
    for k in set(label):
        assert np.ptp(p[label == k], axis=0).max() < 1e-9
    if lattice in MULTI:
        assert np.isclose(np.linalg.norm(p[label == 0][0] - p[label == 1][0]), 0.03)
    else:
        assert np.abs(p).max() == 0.0


@pytest.mark.parametrize("lattice", HOSTS)
def test_force_and_virial_weigh_as_their_work_on_a_displacement_of_norm_one(lattice: str) -> None:
    """sup of (work) / ||Du|| over shifts, and over the volume strain: one constant times the weighted labels."""
    host = HOSTS[lattice]
    i, j, rho = host.bonds((1, 1, 1))
    x = host.positions((1, 1, 1))
    vectors = x[j] + rho - x[i]
    constant = np.sqrt(host.nb / host.s2)
    stretch = np.linalg.norm(vectors)  # ||Du|| of u = x
    virial = np.array([1.0, 1.0, 1.0])
    assert np.isclose(virial.sum() / stretch, constant * np.linalg.norm(virial) / host.nb)
    if lattice not in MULTI:
        assert shift_scale(host) == 0.0
        return
    sign = np.where(np.array(sublattices(host)) == 0, 1.0, -1.0)
    forces, best = np.outer(sign, [0.3, -0.2, 0.5]), 0.0
    for direction in [np.array([0.3, -0.2, 0.5]), *np.random.default_rng(0).normal(size=(40, 3))]:
        q = np.outer(sign, direction)
        best = max(best, float((forces * q).sum()) / float(np.linalg.norm(q[j] - q[i])))
    assert np.isclose(best, constant * shift_scale(host) * np.linalg.norm(forces))
