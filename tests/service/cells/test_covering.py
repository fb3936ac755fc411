from __future__ import annotations

import numpy as np
import pytest

from farfield.service.cells import ForceConstantCell, Host
from farfield.service.cells.covering import FLOOR, cover
from farfield.service.cells.wave_vectors import wave_vectors


@pytest.mark.parametrize(("lattice", "n"), [("fcc", 3), ("bcc", 4), ("diamond", 2), ("zincblende", 2)])
def test_every_star_is_told_in_three_directions_for_every_site(lattice: str, n: int) -> None:
    host = Host.named(lattice, ["Si", "C"] if lattice == "zincblende" else ["Si"], 4.4)
    waves = wave_vectors(host, (n, n, n))
    told: dict[tuple[int, int], list[np.ndarray]] = {}
    for d in cover(waves):
        for q in d.group:
            for g in waves.operations:
                image = int(g.wave[q])
                for k in {image, int(waves.negative[image])}:
                    told.setdefault((k, int(g.site[d.site])), []).append(g.rotation @ np.array(d.direction))
    for q in range(len(waves)):
        for s in range(len(waves.sites)):
            assert np.linalg.matrix_rank(np.array(told[q, s]), tol=1e-6) == 3


@pytest.mark.parametrize(("lattice", "n"), [("fcc", 3), ("bcc", 3), ("diamond", 2)])
def test_it_costs_less_than_the_supercell_and_nothing_in_it_is_idle(lattice: str, n: int) -> None:
    host = Host.named(lattice, ["Si"], 4.4)
    chosen = cover(wave_vectors(host, (n, n, n)))
    whole = ForceConstantCell(host, (n, n, n))
    cost = sum(d.calls * max(len(d.group) * len(wave_vectors(host, (n, n, n)).sites), FLOOR) ** 2 for d in chosen)
    assert cost < 0.3 * sum(len(whole.signs(d)) for d in whole.displacements) * whole.natoms**2
    assert len(set((d.group, d.site, d.direction) for d in chosen)) == len(chosen)


def test_a_mirror_image_saves_the_other_sign() -> None:
    fcc = cover(wave_vectors(Host.named("fcc", ["Cu"], 3.6), (2, 2, 2)))
    assert all(d.calls == 1 for d in fcc)  # every site is a centre of inversion
    for d in fcc:
        assert d.mirror is not None
        assert np.allclose(d.mirror.rotation @ np.array(d.direction), -np.array(d.direction))
