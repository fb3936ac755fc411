"""Host curves of a campaign: elastic constants of a known solid, phonons in the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.calculators.emt import EMT

from farfield.oracles.observation import VOIGT
from farfield.service.cells import strained
from farfield.service.report.crystal import elastic, phonons, surrogate_constants
from farfield.service.report.data import CampaignData
from farfield.service.report.phonons import band_path, frequencies


def test_elastic_constants_of_a_linear_solid_come_back(data: CampaignData) -> None:
    c11, c12, c44 = 170.0, 120.0, 75.0
    volume = data.host.a**3

    def virial(e: np.ndarray) -> np.ndarray:
        stress = [c11 * e[a, a] + c12 * (np.trace(e) - e[a, a]) if a == b else 2 * c44 * e[a, b] for a, b in VOIGT]
        return -volume * np.array(stress) * units.GPa

    rounds = tuple(
        replace(
            r,
            labels=tuple(
                replace(x, virial=virial(np.array(x.meta["strain"]))) if x.role == "strain" else x for x in r.labels
            ),
        )
        for r in data.rounds
    )
    found = elastic(replace(data, rounds=rounds))
    assert found is not None
    assert (found[0].c11, found[0].c12, found[0].c44) == pytest.approx((c11, c12, c44), rel=1e-6)
    assert found[0].bulk == pytest.approx((c11 + 2 * c12) / 3)
    assert found[0].anisotropy == pytest.approx(3.0)


def test_elastic_constants_of_emt_agree_with_small_strains(data: CampaignData) -> None:
    def stress(e: np.ndarray) -> np.ndarray:
        atoms = strained(data.host.atoms(), e)
        atoms.calc = EMT()
        return np.asarray(atoms.get_stress()) / units.GPa

    h = 1e-4
    uniaxial, shear = np.zeros((3, 3)), np.zeros((3, 3))
    uniaxial[0, 0] = h
    shear[0, 1] = shear[1, 0] = h / 2
    d = (stress(uniaxial) - stress(-uniaxial)) / (2 * h)
    s = (stress(shear) - stress(-shear)) / (2 * h)
    both = elastic(data)
    assert both is not None
    oracle, own = both
    assert (oracle.c11, oracle.c12, oracle.c44) == pytest.approx((d[0], d[1], s[5]), rel=0.02)
    assert (own.c11, own.c12, own.c44) == pytest.approx((oracle.c11, oracle.c12, oracle.c44), rel=0.2)
    assert oracle.pressure == pytest.approx(0, abs=0.1)  # at its own lattice constant


def test_surrogate_phonons_are_zero_at_gamma_and_near_the_oracle(data: CampaignData) -> None:
    known = data.force_constants
    assert known is not None
    assert data.final is not None
    assert data.final.snapshot.surrogate is not None
    cell, constants, step = known
    path = band_path(data.host.lattice, 10)
    oracle = frequencies(data.host, constants, cell.size, path.q)
    own = frequencies(data.host, surrogate_constants(data.final.snapshot.surrogate, cell, step), cell.size, path.q)
    assert own[0] == pytest.approx(0, abs=1e-3)
    assert oracle[0] == pytest.approx(0, abs=1e-3)
    assert np.abs(own - oracle).max() < 0.2 * oracle.max()


def test_phonon_picture_has_units_and_corners(data: CampaignData) -> None:
    ax = phonons(data).axes[0]
    assert ax.get_ylabel() == "frequency (THz)"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["Γ", "X", "K", "Γ", "L"]


def test_nothing_is_invented_before_there_are_labels(data: CampaignData) -> None:
    bare = replace(data, rounds=data.rounds[:1])
    assert bare.force_constants is None
    assert elastic(bare) is None
    assert not phonons(bare).axes[0].lines
