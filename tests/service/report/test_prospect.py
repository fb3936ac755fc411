"""The picture of the forecast shows the measured points and the numbers it was given, with units on its axes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farfield.service.report.data import CampaignData
from farfield.service.report.prospect import Predicted, predicted_error


def steps(data: CampaignData) -> list[Predicted]:
    spent = max(data.spent.values())
    return [
        Predicted((4, 4, 4), spent + 2.0, (3e-3, 1e-3, 9e-3), (2e-4, 1e-4, 4e-4)),
        Predicted((4, 4, 5), spent + 5.0, (2e-3, 5e-4, 8e-3), (1e-4, 4e-5, 3e-4)),
    ]


def test_forecast_and_measured_points_are_drawn_as_given(data: CampaignData) -> None:
    left, right = predicted_error(data, steps(data)).axes
    spent = max(data.spent.values())
    for ax, values, measured in (
        (left, [3e-3, 2e-3], [e.eta_geo for _, e in data.estimated]),
        (right, [0.2, 0.1], [1e3 * abs(e.eta_energy) for _, e in data.estimated]),
    ):
        lines = {line.get_label(): line for line in ax.lines}
        assert lines["measured"].get_data()[1] == pytest.approx(measured)
        x, y = lines["forecast, 68 % band"].get_data()
        assert y == pytest.approx(values)
        assert x == pytest.approx([spent + 2.0, spent + 5.0])
        band = ax.collections[0].get_paths()[0].get_extents()
        assert band.y0 == pytest.approx(min(*([5e-4, 9e-3] if ax is left else [0.04, 0.4]), measured[-1]))
        assert "core-seconds" in ax.get_xlabel()
        assert ax.get_yscale() == "log"
    assert left.get_ylabel().endswith("(Å)")
    assert right.get_ylabel().endswith("(meV)")
    assert lines["tolerance"].get_data()[1] == pytest.approx([1e3 * data.tol_energy] * 2)
    assert {t.get_text() for t in left.texts} == {"4×4×4", "4×4×5"}


def test_without_a_forecast_the_measured_points_stand_alone(data: CampaignData) -> None:
    left, _ = predicted_error(data, []).axes
    assert [line.get_label() for line in left.lines] == ["measured", "tolerance"]
    empty = predicted_error(replace(data, rounds=data.rounds[:1]), [])
    assert "no verification call yet" in empty.axes[0].texts[0].get_text()
