from __future__ import annotations

import numpy as np
import pytest

from farfield.errors import ConfigError
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.problem import Problem
from farfield.service.cells import DefectCell
from farfield.service.surrogate import CORE, core_labels


def problem(**sections: object) -> Problem:
    return Problem(CampaignConfig.model_validate(sections))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"defect": {"kind": "interstitial", "position": "octahedral"}},
        {"defect": {"kind": "interstitial", "position": "dumbbell-100"}},
        {"host": {"species": ["W"], "lattice": "bcc"}, "defect": {"kind": "interstitial", "position": "octahedral"}},
        {
            "host": {"species": ["W"], "lattice": "bcc"},
            "defect": {"kind": "interstitial", "species": "H", "position": "tetrahedral"},
            "references": {"H": -3.4},
        },
    ],
)
def test_no_first_cell_is_inside_the_core(sections: dict[str, object]) -> None:
    posed = problem(**sections)
    basis = posed.basis(2)
    assert 0.4 < basis.core <= CORE
    cell = DefectCell(posed.host, posed.defect, (3, 3, 3))
    atoms = cell.atoms(cell.start(0.05, np.random.default_rng(0)))
    assert core_labels(basis, atoms)[0] == 0
    assert posed.basis(3).core == basis.core


def test_every_pair_of_a_compound_has_a_distance_of_its_own() -> None:
    posed = problem(host={"species": ["Si", "C"], "lattice": "zincblende"}, references={"C": -9.2, "Si": -5.4})
    basis = posed.basis(1)
    c, si = basis.species.index("C"), basis.species.index("Si")
    assert basis.distances[c, si] == pytest.approx(posed.host.nearest)
    assert basis.distances[c, c] < basis.distances[c, si] < basis.distances[si, si]


@pytest.mark.parametrize("name", ["sklearn.linear_model.Nothing", "nothing", "math.sqrt", "sklearn.svm.SVC"])
def test_what_is_no_regressor_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"surrogate\.regressor: there is no linear regressor") as caught:
        problem(surrogate={"regressor": name}).check()
    assert "\n" not in str(caught.value)
