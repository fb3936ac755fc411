"""Laws of the training set: what is rebuilt is what grew, at flat memory; force constants; withdrawn labels."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.optimize import brentq

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.config import CampaignConfig
from farfield.service.campaign.observed import DefectLabel, ForceConstantLabel, Observed, StrainLabel
from farfield.service.campaign.problem import Problem
from farfield.service.campaign.training import TrainingSet
from farfield.service.cells import Defect, DefectCell, ForceConstantCell, Host, Size, free_parameters
from farfield.service.cells.crystal import conventional
from farfield.service.proposals.opening import strain_cells
from farfield.service.surrogate import LEVELS, Basis, Surrogate, Triangle, design

CU = Host.named("fcc", ["Cu"], 3.6)
SI = Host.named("diamond", ["Si"], 5.4)
CRYSTALS = [CU, SI, Host.named("b2", ["Cu", "Zn"], 2.95), Host.named("rocksalt", ["Cu", "Zn"], 4.8)]
Force = Callable[[Atoms], tuple[float, Any, Any]]
WEIGHTS = {"E": 5.0, "F": 1.0, "V": 0.7, "FC": 0.3}


def basis(host: Host, level: int = 0) -> Basis:
    return Basis.default(host.species, host.nearest, level, lattice=host.lattice)


def vacancy(host: Host) -> Defect:
    return Defect.named(host, "vacancy")


def observed(host: Host, oracle: Force, cells: int, size: Size = (2, 2, 2)) -> Observed:
    """`cells` rattled vacancies, strained cells and one force-constant cell."""
    rng = np.random.default_rng(3)
    energy, _, virial = oracle(host.atoms())
    out = Observed(references={(1, 1, 1): (energy, virial)})
    cell = DefectCell(host, vacancy(host), size)
    for k in range(cells):
        atoms = cell.atoms(cell.start(0.05, rng))
        e, f, v = oracle(atoms)
        out.defects.append(DefectLabel(1, k, atoms, size, "training", e, f, v, f"d{k}"))
    for k, (atoms, _, _, _, _, meta) in enumerate(strain_cells(host, 0.02, rng, 0, "V tail")):
        _, f, v = oracle(atoms)
        strain = np.array(meta["strain"])
        out.strains.append(
            StrainLabel(1, k, atoms, strain, meta["pair"], meta["sign"], v, f, f"s{k}", "shifts" in meta)
        )
    fc = ForceConstantCell(host, size)
    forces = [[oracle(fc.displaced(d, s * 0.01))[1] for s in fc.signs(d)] for d in fc.displacements]
    out.constants.append(ForceConstantLabel(1, size, 0.01, forces, [[0]] * len(forces), ["c0"]))
    return out


def trained(host: Host, seen: Observed, level: int = 0) -> TrainingSet:
    training = TrainingSet(basis(host, level), host, vacancy(host))
    training.update(seen, seen.references[(1, 1, 1)][0])
    return training


def part(seen: Observed, defects: int, strains: int, constants: int) -> Observed:
    """The first labels of each sort."""
    return Observed(
        references=seen.references,
        defects=seen.defects[:defects],
        strains=seen.strains[:strains],
        constants=seen.constants[:constants],
    )


def test_rebuilt_triangles_are_those_that_grew(morse: Force) -> None:
    seen = observed(CU, morse, 4)
    reference = seen.references[(1, 1, 1)][0]
    grown = TrainingSet(basis(CU), CU, vacancy(CU))
    for n in range(1, 5):
        grown.update(part(seen, n, 3 * n, n // 4), reference)
        grown.fit(WEIGHTS, reference)
    rebuilt = trained(CU, seen)
    for kind, triangle in rebuilt.triangles.items():
        assert np.array_equal(triangle.factor, grown.triangles[kind].factor)  # what a resume needs
        assert triangle.count > 0
    plain = {kind: Triangle(grown.basis.size) for kind in ("E", "F")}  # and one label at a time, without blocks
    for label in seen.defects:
        rows, n = design(grown.basis, label.atoms), DefectCell(CU, vacancy(CU), label.size).references
        plain["E"].add(rows.energy - n * grown.host_row, label.energy - n * reference)
        plain["F"].add(rows.forces, label.forces.ravel())
    for kind, triangle in plain.items():
        ours = rebuilt.triangles[kind].factor
        assert np.allclose(ours.T @ ours, triangle.factor.T @ triangle.factor, rtol=1e-9, atol=1e-9)


def test_the_fit_is_the_same_whatever_the_blocks(morse: Force, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observed(CU, morse, 4)
    reference = seen.references[(1, 1, 1)][0]
    blocks = trained(CU, seen).fit(WEIGHTS, reference)[0].mean
    alone = TrainingSet(basis(CU), CU, vacancy(CU))
    for n in range(1, 5):
        for fold in alone._folds.values():  # fold what waits, label after label
            fold._whole, fold._rows, fold._labels, fold._waiting = fold.triangle.copy(), [], [], 0
        alone.update(part(seen, n, 12, n // 4), reference)
    one = alone.fit(WEIGHTS, reference)[0].mean
    assert np.abs(blocks - one).max() < 1e-9 * np.abs(one).max()


def peak(host: Host, seen: Observed, level: int) -> int:
    """Bytes allocated at the worst moment of a rebuild."""
    trained(host, part(seen, 1, 1, 1), level)  # compiles, and fills the caches of operations and layout
    tracemalloc.start()
    try:
        trained(host, seen, level)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_rebuild_takes_the_same_memory_at_any_history(morse: Force) -> None:
    """The next basis re-reads the record: rows of ten labels or of two hundred, never more than one block at a time."""
    seen = observed(CU, morse, 10)
    many = part(seen, 10, 12, 1)
    many.defects = seen.defects * 20
    few, lots = peak(CU, seen, 1), peak(CU, many, 1)
    rows = 8 * 3 * 31 * basis(CU, 1).size
    assert lots < 1.1 * few
    assert lots < 200 * rows / 4  # what it would be if the rows stayed


@pytest.mark.parametrize("host", CRYSTALS, ids=lambda h: h.lattice)
@pytest.mark.parametrize("size", [(2, 2, 2), (2, 2, 3)])
def test_rows_of_force_constants_are_those_of_whole_cells(host: Host, size: Size, morse: Force) -> None:
    """Differences of the affected centres alone, on both sides, against the displaced cells that were bought (C4)."""
    fc, step = ForceConstantCell(host, size), 0.01
    forces = [[morse(fc.displaced(d, s * step))[1] for s in fc.signs(d)] for d in fc.displacements]
    label = ForceConstantLabel(1, size, step, forces, [[0]] * len(forces), ["c0"])
    training = TrainingSet(basis(host), host, vacancy(host))
    training.update(Observed(constants=[label]), 0.0)
    blocks, labels = [], []
    for d, f in zip(fc.displacements, forces, strict=True):
        sides = [
            design(training.basis, fc.displaced(d, s * step)).forces.reshape(fc.natoms, 3, -1) for s in fc.signs(d)
        ]
        blocks.append(fc.column(d, step, sides).reshape(3 * fc.natoms, -1))
        labels.append(fc.column(d, step, f).ravel())
    A, y = np.vstack(blocks), np.concatenate(labels)
    R = training.triangles["FC"].factor
    assert training.triangles["FC"].count == len(y)
    stack = np.column_stack([A, y])
    assert np.abs(R.T @ R - stack.T @ stack).max() < 1e-10 * np.abs(stack.T @ stack).max()


def test_rows_of_force_constants_column_by_column() -> None:
    from farfield.service.surrogate import force_constant_rows

    for host, size in ((CU, (2, 2, 2)), (CU, (1, 2, 3)), (SI, (1, 1, 2))):
        fc, b = ForceConstantCell(host, size), basis(host)
        for d in fc.displacements:
            sides = [design(b, fc.displaced(d, s * 0.02)).forces.reshape(fc.natoms, 3, -1) for s in fc.signs(d)]
            whole = fc.column(d, 0.02, sides).reshape(3 * fc.natoms, -1)
            ours = force_constant_rows(b, host.atoms(size), d.site, d.direction, 0.02)
            assert np.abs(ours - whole).max() < 1e-10 * np.abs(whole).max()


def test_a_withdrawn_label_leaves_as_if_it_had_never_been(morse: Force) -> None:
    seen = observed(CU, morse, 4)
    reference = seen.references[(1, 1, 1)][0]
    training = trained(CU, seen)
    before = {k: t.factor for k, t in training.triangles.items()}
    left, gone = seen.without({"d1", "s3", "c0"})
    assert [type(g) for g in gone] == [DefectLabel, StrainLabel, ForceConstantLabel]
    training.update(left, reference)
    never = trained(CU, left)
    for kind, triangle in training.triangles.items():
        assert np.array_equal(triangle.factor, never.triangles[kind].factor)
        assert not np.array_equal(triangle.factor, before[kind])
    assert (training.n_defects, training.n_strains, training.triangles["FC"].count) == (3, 11, 0)
    assert len(seen.strain_pairs()) == 6
    assert len(left.strain_pairs()) == 5  # the estimate needs both sides


@pytest.mark.parametrize("degrees", [None, [5, 6, 5]])
def test_each_level_contains_the_one_before(degrees: list[int] | None, morse: Force) -> None:
    """So the residual in sample at fixed weights never rises with the basis."""
    surrogate = {"level": 0} if degrees is None else {"level": 0, "degrees": degrees}
    problem = Problem(CampaignConfig.from_mapping({"surrogate": surrogate}), 3.6)
    seen = observed(CU, morse, 2)
    atoms, before, last = seen.defects[0].atoms, None, np.inf
    for level in range(len(LEVELS)):
        b = problem.basis(level)
        rows = np.vstack([design(b, atoms).forces, design(b, atoms).energy])
        if before is not None:
            smaller, own = before
            where = [b.functions.index(f) for f in smaller.functions] + [b.size - 1]
            assert np.allclose(rows[:, where], own, rtol=1e-9, atol=1e-9 * np.abs(own).max())
        before = b, rows
        if level < 4:  # beyond, more columns than rows
            training = TrainingSet(b, problem.host, problem.defect)
            training.update(seen, seen.references[(1, 1, 1)][0])
            R = np.vstack([w * training.triangles[k].factor for k, w in WEIGHTS.items()])
            c = np.linalg.lstsq(R[:, :-1], R[:, -1], rcond=1e-13)[0]
            residual = float(np.linalg.norm(R[:, :-1] @ c - R[:, -1]))
            assert residual <= last * (1 + 1e-9)
            last = residual


def test_internal_forces_are_rows_where_sublattices_can_shift(morse: Force) -> None:
    copper, silicon = trained(CU, observed(CU, morse, 1)), trained(SI, observed(SI, morse, 1, (1, 1, 1)))
    assert copper.triangles["V"].count == 12 * 6
    assert silicon.triangles["V"].count == 18 * (6 + 3 * 8)


def test_shifted_cells_teach_what_strains_alone_cannot(morse: Force) -> None:
    """A teacher fits its own rows exactly; coefficients that only shifted cells see are free without them."""
    b = basis(SI)
    teacher = Surrogate(b, np.random.default_rng(0).normal(size=b.size))
    seen = observed(SI, teacher.evaluate, 1, (1, 1, 1))
    seen.references = {(1, 1, 1): (seen.references[(1, 1, 1)][0], None)}  # its pressure is real, no Pulay offset
    whole = trained(SI, seen).triangles["V"]
    assert whole.residual_norm(teacher.coefficients) < 1e-10 * whole.label_norm
    frozen = part(seen, 1, 12, 0)
    assert not any(s.shifted for s in frozen.strains)
    assert all(s.shifted for s in seen.strains[12:])
    blind = [np.linalg.svd(t.factor[:, :-1], compute_uv=False) for t in (trained(SI, frozen).triangles["V"], whole)]
    rank = [int((s > 1e-6 * s[0]).sum()) for s in blind]
    assert rank[1] > rank[0]


@pytest.mark.parametrize("offset", [0.0, 0.8])
def test_virials_of_a_crystal_under_pressure_contradict_no_other_label(offset: float) -> None:
    """A surrogate of the same basis as oracle, at a lattice constant that is not its own, with Pulay's offset."""
    host = Host.named("fcc", ["Cu"], 3.6)
    b = basis(host)
    rng = np.random.default_rng(5)
    teacher = Surrogate(b, rng.normal(size=b.size) / b.prior.clip(1.0))
    pulay = np.array([offset, offset, offset, 0.0, 0.0, 0.0])

    def oracle(atoms: Atoms) -> tuple[float, Any, Any]:
        energy, forces, virial = teacher.evaluate(atoms)
        return energy, forces, virial + pulay

    seen = observed(host, oracle, 3)
    reference = seen.references[(1, 1, 1)][0]
    pressure = np.abs(teacher.evaluate(host.atoms())[2]).max()
    misfit = {}
    for at_rest in (False, True):
        training = TrainingSet(b, host, vacancy(host), at_rest=at_rest)
        training.update(seen, reference)
        posterior, _ = training.fit(WEIGHTS, reference)
        misfit[at_rest] = posterior.residual_rms["V"]
    assert pressure > 0.1
    assert misfit[False] < 1e-3 * pressure
    assert misfit[True] > 10 * misfit[False]


def test_a_crystal_with_free_sites_is_at_rest_in_the_surrogate() -> None:
    """Copper on the sites of wurtzite, shifted to where EMT's forces vanish: nothing but rows of its own says so."""
    atoms = bulk("ZnO", "wurtzite", a=4.1, c=6.7)
    atoms.symbols[:] = "Cu"
    host = conventional(atoms, "lonsdaleite")
    (sites,) = (p for p in free_parameters(host) if p.name == "sites")
    shifts = np.array(sites.shifts)

    def pull(s: float) -> float:
        return float((EMTOracle().evaluate(sites.deform(host, s).atoms(), ("F",)).values["F"] * shifts).sum())

    host = sites.deform(host, brentq(pull, -0.3, 0.3))
    functions = Basis.default(("Cu",), host.nearest, 1)
    rng = np.random.default_rng(0)
    cell = DefectCell(host, Defect(removed=(0,)), (2, 2, 2))
    labels = Observed()
    for k in range(2):
        cluster = cell.atoms(cell.start(0.05, rng))
        v = EMTOracle().evaluate(cluster, ("E", "F")).values
        labels.defects.append(
            DefectLabel(0, k, cluster, cell.size, "training", float(v["E"]), np.asarray(v["F"]), None, str(k))
        )
    reference = float(EMTOracle().evaluate(host.atoms(), ("E",)).values["E"])
    found = []
    for at_rest in (False, True):
        training = TrainingSet(functions, host, cell.defect, at_rest=at_rest)
        training.update(labels, reference)
        _, surrogate = training.fit({"E": 5.0, "F": 1.0}, reference)
        found.append(np.abs(surrogate.evaluate(host.atoms())[1]).max())
    assert found[1] < 0.2 * found[0]
    assert found[1] < 0.01
