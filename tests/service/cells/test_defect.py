from __future__ import annotations

import numpy as np
import pytest

from farfield.errors import CrystalError
from farfield.service.cells import Defect, DefectCell, Host

CU = Host.named("fcc", ["Cu"], 3.6)
SI = Host.named("diamond", ["Si"], 5.4)
NACL = Host.named("rocksalt", ["Na", "Cl"], 5.6)
DEFECTS = {
    "vacancy": (CU, Defect.named(CU, "vacancy", site=2)),
    "octahedral": (CU, Defect.named(CU, "interstitial", position="octahedral")),
    "dumbbell": (CU, Defect.named(CU, "interstitial", position="dumbbell-100")),
    "substitution": (CU, Defect.named(CU, "substitution", species="Au", site=1)),
    "tetrahedral Si": (SI, Defect.named(SI, "interstitial", position="tetrahedral")),
    "foreign": (NACL, Defect.named(NACL, "interstitial", species="Li", position=[0.25, 0.25, 0.25])),
}


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("size", [(2, 2, 2), (2, 2, 3), (2, 3, 3)])
def test_small_cells_sit_in_the_large_one_atom_by_atom(name: str, size: tuple[int, int, int]) -> None:
    host, defect = DEFECTS[name]
    small, large = DefectCell(host, defect, size), DefectCell(host, defect, (4, 4, 4))
    index = small.map_to(large)
    assert len(set(index)) == small.natoms
    assert [large.symbols[k] for k in index] == small.symbols
    # same place relative to the defect, up to the small cell's own periods
    assert np.allclose(small.radius, large.radius[index])


@pytest.mark.parametrize("name", DEFECTS)
def test_counts(name: str) -> None:
    host, defect = DEFECTS[name]
    cell = DefectCell(host, defect, (3, 3, 3))
    perfect = host.atoms((3, 3, 3)).symbols.formula.count()
    excess = {s: cell.symbols.count(s) - perfect.get(s, 0) for s in set(cell.symbols) | set(perfect)}
    assert {s: n for s, n in excess.items() if n} == defect.excess(host)
    if host.elemental:
        assert cell.references == cell.symbols.count(host.species[0]) / host.nb
    else:
        assert cell.references == 27


def test_restrict_and_extend_are_inverse_away_from_the_mean() -> None:
    rng = np.random.default_rng(0)
    host, defect = DEFECTS["vacancy"]
    small, large = DefectCell(host, defect, (2, 3, 3)), DefectCell(host, defect, (4, 4, 4))
    u = rng.normal(size=(small.natoms, 3))
    outer = small.radius > 0.8 * small.radius.max()
    u -= u[outer].mean(axis=0)
    assert np.allclose(small.restrict(large, large.extend(small, u)), u)


def test_a_larger_cell_does_not_fit() -> None:
    host, defect = DEFECTS["vacancy"]
    with pytest.raises(CrystalError, match="does not fit"):
        DefectCell(host, defect, (3, 3, 3)).map_to(DefectCell(host, defect, (2, 3, 3)))


@pytest.mark.parametrize("name", DEFECTS)
def test_strain_norm_against_brute_force(name: str) -> None:
    host, defect = DEFECTS[name]
    cell = DefectCell(host, defect, (3, 3, 3))
    u = np.random.default_rng(1).normal(size=(cell.natoms, 3))
    d = cell.atoms(np.zeros_like(u)).get_all_distances(mic=True)
    bonds = (d <= host.stencil) & ~np.eye(cell.natoms, dtype=bool)
    brute = np.array([np.sqrt(((u[bonds[k]] - u[k]) ** 2).sum()) for k in range(cell.natoms)])
    assert np.allclose(cell.strain(u), brute)
    assert np.isclose(cell.norm(u, 4.0, 4), (brute[cell.radius > 4.0] ** 4).sum() ** 0.25)
    assert cell.norm(np.ones_like(u)) == 0.0  # translations carry no strain


@pytest.mark.parametrize("name", DEFECTS)
def test_site_values_round_trip(name: str) -> None:
    host, defect = DEFECTS[name]
    cell = DefectCell(host, defect, (2, 2, 2))
    u = np.random.default_rng(2).normal(size=(cell.natoms, 3))
    back = cell.from_sites(cell.on_sites(u))
    ordinary = cell.natoms - cell.added
    assert np.array_equal(back[:ordinary], u[:ordinary])
    assert not back[ordinary:].any()
    for b in defect.removed:
        assert not cell.on_sites(u)[b].any()


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("a", [3.58983726, 3.6, 3.61, 3.9941763])
def test_last_bits_move_no_site_across_a_face(name: str, a: float) -> None:
    """Sites on the faces of a verification cell lie at L exactly: inside, whatever the rounding of L."""
    host, defect = DEFECTS[name]
    host = host.with_constant(a)
    target = DefectCell(host, defect, (5, 5, 5))
    masks = [target.outside(DefectCell(host, defect, size).half_width) for size in ((2, 2, 2), (2, 2, 3), (2, 3, 3))]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()
    on_face = np.abs(target.radius - host.a) < 1e-6
    assert not masks[0][on_face].any()
    u = np.ones((target.natoms, 3)) * target.radius[:, None]
    assert len({target.norm(u, a * (1 + t)) for t in (-1e-12, 0.0, 1e-12)}) == 1


def test_positions_outside_the_cell_are_the_same_site() -> None:
    here, there = (Defect.named(CU, "interstitial", position=[0.5 + n, 0.5, 0.5 - n]) for n in (0, 3))
    assert here == there


def test_dumbbell_parts_its_two_atoms() -> None:
    host, defect = DEFECTS["dumbbell"]
    cell = DefectCell(host, defect, (2, 2, 2))
    atoms = cell.atoms(cell.start(0.0, np.random.default_rng(0)))
    d = atoms.get_all_distances(mic=True)
    assert np.isclose(d[0, -1], 0.8 * host.nearest)
    assert d[d > 0].min() > 0.6 * host.nearest


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("dislocation", {}, "unknown defect"),
        ("vacancy", {"site": 7}, "not one of the host's basis sites"),
        ("substitution", {}, "needs a species"),
        ("substitution", {"species": "Cu"}, "other than the one"),
        ("substitution", {"species": "Xx"}, "unknown element"),
        ("interstitial", {}, "needs defect.position"),
        ("interstitial", {"position": "bridge"}, "has no 'bridge'"),
        ("interstitial", {"position": [0.5, 0.5, 0.0]}, "sits on a host site"),
        ("interstitial", {"position": [4.0, -7.5, 2.5]}, "sits on a host site"),
    ],
)
def test_wrong_defects_are_refused_in_one_line(kind: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(CrystalError, match=says) as fault:
        Defect.named(CU, kind, **options)  # type: ignore[arg-type]
    assert "\n" not in str(fault.value)
