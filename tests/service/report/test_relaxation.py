"""Shells and strain decay of known displacement fields."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from farfield.oracles.packing import pack, unpack
from farfield.service.report.data import CampaignData
from farfield.service.report.relaxation import relaxation_by_shell, shells, strain_decay


def with_displacement(data: CampaignData, u: np.ndarray) -> CampaignData:
    """The campaign with another solution in its last round."""
    header, arrays = unpack(data.rounds[-1].state)
    last = replace(data.rounds[-1], state=pack(header, {**arrays, "u": u}))
    return replace(data, rounds=(*data.rounds[:-1], last))


def radial(data: CampaignData) -> np.ndarray:
    """Ideal positions from the vacancy, nearest image, Å."""
    target = data.target
    d = target.x0 - target.defect.centre(data.host) @ data.host.cell
    f = d @ np.linalg.inv(target.cell)
    return np.asarray((f - np.rint(f)) @ target.cell)


def test_shells_of_an_fcc_vacancy_have_the_counts_of_the_lattice(data: CampaignData) -> None:
    found = shells(data)
    assert [s.count for s in found[:6]] == [12, 6, 24, 12, 24, 8]
    r_nn = data.host.a / 2**0.5
    assert [s.distance / r_nn for s in found[:4]] == pytest.approx([1, 2**0.5, 3**0.5, 2])


def test_neighbours_of_the_vacancy_move_inwards(data: CampaignData) -> None:
    first = shells(data)[0]
    assert first.radial < 0
    assert abs(first.radial) == pytest.approx(first.mean, rel=0.05)  # along the line to the vacancy


def test_a_field_that_points_outwards_is_read_back(data: CampaignData) -> None:
    r = radial(data)
    length = np.linalg.norm(r, axis=1)
    u = 0.02 * r / length[:, None]
    u[length > 0.45 * data.target.cell[0, 0]] = 0.0
    found = shells(with_displacement(data, u), 4)
    assert [s.radial for s in found] == pytest.approx([0.02] * 4)
    assert [s.largest for s in found] == pytest.approx([0.02] * 4)


def test_a_rigid_shift_is_no_relaxation(data: CampaignData) -> None:
    u = np.tile([0.1, -0.2, 0.3], (data.target.natoms, 1))
    assert all(s.largest < 1e-12 and s.strain < 1e-12 for s in shells(with_displacement(data, u)))


def test_decay_picture_is_logarithmic_with_the_rungs_marked(data: CampaignData) -> None:
    ax = strain_decay(data).axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "Å" in ax.get_xlabel()
    assert "Å" in ax.get_ylabel()
    names = {t.get_text() for t in ax.texts}
    assert any(n.startswith("2×2×2") for n in names)
    guide = next(line for line in ax.lines if str(line.get_label()).startswith("$\\propto"))
    x, y = (np.asarray(v, float) for v in guide.get_data())
    assert np.log(y[1] / y[0]) / np.log(x[1] / x[0]) == pytest.approx(-3)


def test_nothing_to_draw_before_the_first_fit(data: CampaignData) -> None:
    bare = replace(data, rounds=data.rounds[:1])
    assert shells(bare) == []
    assert not strain_decay(bare).axes[0].lines
    assert not relaxation_by_shell(bare).axes[0].patches
