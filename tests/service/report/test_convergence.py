"""Error against cost, formation energy, parity and cost: what the pictures show is what the record holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from farfield.service.report.convergence import (
    cost_unit,
    error_against_cost,
    formation_energy,
    true_energy_errors,
    true_geometry_errors,
)
from farfield.service.report.data import CampaignData, Truth
from farfield.service.report.parity import Parity, forces_and_energies, parity
from farfield.service.report.spending import by_kind, by_size, cost_by_kind_and_size


def test_estimates_stand_at_the_cost_charged_until_then(data: CampaignData) -> None:
    left, right = error_against_cost(data).axes
    cost = np.cumsum([sum(x.core_seconds for x in r.labels) for r in data.rounds])
    expected = [(c, r.estimate) for c, r in zip(cost, data.rounds, strict=True) if r.estimate is not None]
    x, y = left.lines[0].get_data()
    assert x == pytest.approx([c for c, _ in expected])
    assert y == pytest.approx([e.eta_geo for _, e in expected])
    assert right.lines[0].get_data()[1] == pytest.approx([1e3 * abs(e.eta_energy) for _, e in expected])
    for ax, tolerance in ((left, data.tol_geo), (right, 1e3 * data.tol_energy)):
        line = next(v for v in ax.lines if v.get_label() == "tolerance")
        assert line.get_data()[1] == pytest.approx([tolerance, tolerance])
        assert ax.get_yscale() == "log"
        assert "core" in ax.get_xlabel()


def test_true_errors_of_every_round_follow_from_the_kept_displacement(data: CampaignData) -> None:
    last = data.estimated[-1][0].snapshot.u
    assert last is not None
    energy = data.estimated[-1][1].formation_energy
    true = true_geometry_errors(replace(data, truth=Truth(0.0, energy, last)))
    assert sorted(true) == [r.number for r, _ in data.estimated]
    first = data.estimated[0][0]
    assert first.snapshot.u is not None
    assert true[first.number] == pytest.approx(data.target.norm(last - first.snapshot.u))
    assert true[data.estimated[-1][0].number] == 0.0
    errors = true_energy_errors(replace(data, truth=Truth(0.0, energy)))
    assert errors[data.estimated[-1][0].number] == pytest.approx(data.estimated[-1][1].eta_energy)


@pytest.mark.parametrize(("seconds", "unit"), [(1.0, "core-seconds"), (6000.0, "core-minutes"), (1e6, "core-hours")])
def test_cost_is_shown_in_a_unit_that_reads_well(seconds: float, unit: str) -> None:
    factor, name = cost_unit(seconds)
    assert name == unit
    assert 1 <= seconds / factor < 1000


def test_formation_energies_are_those_of_the_record(data: CampaignData) -> None:
    ax = formation_energy(data).axes[0]
    assert ax.get_ylabel().endswith("(eV)")
    raw = next(line for line in ax.lines if line.get_label() == "raw surrogate")
    assert raw.get_data()[1] == pytest.approx([e.formation_energy_raw for _, e in data.estimated])


def test_parity_holds_every_label_once_and_keeps_the_last_call_out(data: CampaignData) -> None:
    both = parity(data)
    assert both is not None
    forces, energies = both
    answered = [x for x in data.labels if x.forces is not None]
    assert len(forces.fitted[0]) + len(forces.held[0]) == sum(3 * len(x.atoms) for x in answered)
    assert len(energies.fitted[0]) + len(energies.held[0]) == sum(x.energy is not None for x in data.labels)
    last = data.rounds[-1].labels[-1]
    assert last.role == "verification"
    assert last.forces is not None
    assert np.isin(last.forces.ravel(), forces.held[0]).all()
    assert Parity.rms(forces.fitted) < 0.05
    assert Parity.rms(energies.fitted) < 0.01
    assert "meV" in forces_and_energies(data).axes[2].get_ylabel()


def test_cost_adds_up_by_kind_and_by_size(data: CampaignData) -> None:
    total = sum(x.core_seconds for x in data.labels)
    for shares in (by_kind(data), by_size(data)):
        assert sum(s.core_seconds for s in shares) == pytest.approx(total)
        assert sum(s.calls for s in shares) == len(data.labels)
    assert any(s.name == "force constants (FC)" for s in by_kind(data))
    sizes = [int(s.name.split()[0]) for s in by_size(data)]
    assert sizes == sorted({len(x.atoms) for x in data.labels})
    verified = by_kind(replace(data, other_cost=(100.0, 7)))
    assert (verified[0].name, verified[0].calls) == ("verify (end result)", 7)
    largest = by_size(replace(data, other_cost=(100.0, 7)))[-1]
    assert (largest.name, largest.core_seconds) == (f"{data.target.natoms} atoms", 100.0)
    assert len(cost_by_kind_and_size(data).axes[0].patches) == len(by_kind(data))
