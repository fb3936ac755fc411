"""Comparing with the truth: an image of the same minimum under the host's symmetry is no error (decisions C11)."""

from __future__ import annotations

import numpy as np
import pytest

from farfield.service.cells import Defect, DefectCell, Host
from farfield.service.runner.verification import nearest_image


def turned(cell: DefectCell, u: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """`u` after a rotation about the defect, atoms matched by their ideal positions."""
    centre = cell.defect.centre(cell.host) @ cell.host.cell
    moved = (cell.x0 - centre) @ rotation.T
    out = np.empty_like(u)
    for k, x in enumerate(moved):
        f = (cell.x0 - centre - x) @ np.linalg.inv(cell.cell)
        d = np.linalg.norm((f - np.rint(f)) @ cell.cell, axis=1)
        assert d.min() < 1e-8
        out[d.argmin()] = rotation @ u[k]
    return out


@pytest.mark.parametrize(("lattice", "site"), [("fcc", 0), ("fcc", 3), ("bcc", 1), ("diamond", 5)])
def test_every_symmetry_image_is_the_same_minimum(lattice: str, site: int) -> None:
    host = Host.named(lattice, ["Cu"], 4.0)
    cell = DefectCell(host, Defect.named(host, "vacancy", site=site), (2, 2, 2))
    rng = np.random.default_rng(3)
    u = rng.normal(size=(cell.natoms, 3))
    threefold = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # about [111]: in the site group of all of these
    image = turned(cell, u, threefold)
    assert cell.norm(image - u) > 1
    assert nearest_image(cell, image, u) == pytest.approx(0, abs=1e-9)
    other = rng.normal(size=u.shape)
    assert 1 < nearest_image(cell, other, u) <= cell.norm(other - u)


def test_added_atoms_keep_the_identity() -> None:
    host = Host.named("fcc", ["Cu"], 4.0)
    cell = DefectCell(host, Defect.named(host, "interstitial", position="octahedral"), (2, 2, 2))
    u = np.random.default_rng(4).normal(size=(cell.natoms, 3))
    assert nearest_image(cell, u, u) == 0
