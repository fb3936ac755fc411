from __future__ import annotations

import numpy as np

from farfield.service.cells import Defect, DefectCell, Host
from farfield.service.proposals import lattice_cells, oracle_check_cells, rattle, start_cells, verification_cell
from farfield.service.proposals.opening import force_constant_cells, strain_cells, strain_count

CU = Host.named("fcc", ["Cu"], 3.6)
VACANCY = Defect.named(CU, "vacancy")


def test_rattle_follows_the_last_estimate() -> None:
    assert rattle(None) == 0.02
    assert np.isclose(rattle(0.1), 0.01)
    assert rattle(10.0) == 0.02
    assert rattle(1e-6) == 0.002
    assert rattle(None, 0.007) == rattle(0.1, 0.007) == 0.007  # what noisy force constants can take out again
    assert np.isclose(rattle(0.05, 0.007), 0.005)
    assert rattle(None, 1e-5) == 0.002


def test_verification_is_the_restricted_solution_plus_the_rattle() -> None:
    cell, target = DefectCell(CU, VACANCY, (3, 3, 3)), DefectCell(CU, VACANCY, (5, 5, 5))
    u = np.random.default_rng(0).normal(size=(target.natoms, 3))
    exact = verification_cell(cell, target, u, 0.0, np.random.default_rng(1))
    assert np.allclose(exact.positions - cell.x0, cell.restrict(target, u), atol=1e-8)
    moved = verification_cell(cell, target, u, 0.01, np.random.default_rng(1)).positions - exact.positions
    assert 0.009 < moved.std() < 0.011
    assert np.array_equal(exact.positions, np.round(exact.positions, 8))  # identities hang on 1e-8 Å only


def test_seven_cells_about_the_guess() -> None:
    cells = list(lattice_cells(CU, ("E", "V")))
    a = [meta["a"] for *_, meta in cells]
    assert len(a) == 7
    assert a == sorted(a)
    assert np.isclose(a[3], 3.6)
    assert all(np.isclose(atoms.cell.array[0, 0], m) for (atoms, *_), m in zip(cells, a, strict=True))


def test_oracle_check_pairs_share_one_middle() -> None:
    cells = {
        meta["name"]: atoms for atoms, *_, meta in oracle_check_cells(CU, ("E", "F", "V"), np.random.default_rng(0))
    }
    assert set(cells) == {"displaced+1", "displaced-1", "strained+1", "strained-1"}
    ideal = CU.positions((1, 1, 1))
    plus, minus = (cells[f"displaced{s}"].positions - ideal for s in ("+1", "-1"))
    assert np.allclose(plus / 1.3, minus / 0.7, atol=1e-7)  # both along one rattle, so that the energies differ
    assert np.abs(plus.sum(axis=0)).max() < 1e-7
    assert len(list(oracle_check_cells(CU, ("E", "F"), np.random.default_rng(0)))) == 2


def test_strained_cells_come_in_pairs_of_one_size() -> None:
    cells = [meta for *_, meta in strain_cells(CU, 0.02, np.random.default_rng(0), 5, "V tail")]
    assert [m["pair"] for m in cells[::2]] == list(range(5, 11))
    for plus, minus in zip(cells[::2], cells[1::2], strict=True):
        assert np.allclose(plus["strain"], -np.array(minus["strain"]))
        assert np.isclose(np.linalg.norm(plus["strain"]), 0.02)


def test_shifts_go_with_strains_only_where_sublattices_can_move() -> None:
    silicon = Host.named("diamond", ["Si"], 5.4)
    rng = np.random.default_rng(0)
    cells = list(strain_cells(silicon, 0.02, rng, 5, "V tail"))
    after = rng.normal()
    assert len(list(strain_cells(CU, 0.02, np.random.default_rng(0), 5, "V tail"))) == 12
    assert len(cells) == 18 == strain_count(silicon)
    assert strain_count(CU) == 12
    assert len({(meta["pair"], meta["sign"]) for *_, meta in cells}) == 18  # no partners but the +-e pairs
    for k, (atoms, kinds, role, *_, meta) in enumerate(cells):
        assert (kinds, role, "shifts" in meta) == (("F", "V"), "strain", k >= 12)
        own = atoms.get_scaled_positions(wrap=False) @ atoms.cell.array - silicon.basis @ atoms.cell.array
        shift = np.linalg.norm(own[0] - own[4])
        assert 0.02 <= shift <= 0.05 if k >= 12 else shift < 1e-7
        assert np.allclose(atoms.cell.array, 5.4 * (np.eye(3) + np.array(meta["strain"])))
    drawn = np.random.default_rng(0)
    list(strain_cells(CU, 0.02, drawn, 5, "V tail"))
    assert drawn.normal() == after  # what is drawn after them does not depend on the crystal


def test_one_displaced_cell_is_enough_for_fcc() -> None:
    cells = list(force_constant_cells(CU, (2, 2, 2), 0.01, "FC tail"))
    assert len(cells) == 1
    assert np.isclose(np.abs(cells[0][0].positions - CU.positions((2, 2, 2))).max(), 0.01)


def test_first_training_cells_are_ideal_and_rattled() -> None:
    cell = DefectCell(CU, VACANCY, (2, 2, 2))
    first, second = (atoms for atoms, *_ in start_cells(cell, ("E", "F"), np.random.default_rng(0), (0.0, 0.05)))
    assert np.allclose(first.positions, cell.x0)
    assert 0.04 < (second.positions - cell.x0).std() < 0.06
