"""Frozen datasets: what is pinned stays, whatever is bought, withdrawn or broken afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from farfield.db import schema
from farfield.db.datasets import Families, datasets, difference, find, freeze, members, verify
from farfield.db.datasets.families import assigned
from farfield.errors import RecordError
from farfield.oracles.observation import Observations
from farfield.oracles.packing import pack_rows


def label(record, claims, session, campaign: int, key: str, atoms: Atoms, kinds: str) -> None:
    rng = np.random.default_rng(int(key[:8], 16))
    attempt = claims.new_attempt(key, campaign, tuple(kinds))
    claims.claim(attempt, session)
    values = {"E": -1.0, "F": rng.normal(size=(len(atoms), 3)), "V": rng.normal(size=6)}
    claims.finish(attempt, session, Observations({k: values[k] for k in kinds}), 1.0)


@pytest.fixture
def parents() -> list[Atoms]:
    """Cells that are no rattle of each other."""
    vacancy = bulk("Cu", cubic=True) * (2, 1, 1)
    del vacancy[0]
    return [bulk("Cu", cubic=True), bulk("Cu", cubic=True) * (2, 1, 1), vacancy, bulk("Ni", cubic=True),
            bulk("Cu", "bcc", a=2.9, cubic=True) * (2, 1, 1)]  # fmt: skip


@pytest.fixture
def rattles(record, claims, session, campaign, decide, parents):
    """Eight rattles of each of five parents, shuffled, labelled; (key, parent) of each."""
    rng = np.random.default_rng(3)
    cells = []
    for number, parent in enumerate(parents):
        for _ in range(8):
            cell = parent.copy()
            cell.set_cell(cell.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
            cell.rattle(0.1, rng=rng)
            cell.translate(rng.normal(size=3))
            cell.wrap() if number % 2 else None
            cells.append((number, cell))
    rng.shuffle(cells)
    keys = []
    decided = decide(0, len(cells), kinds=("E", "F"))
    for proposal, (_, cell) in zip(decided.proposals, cells, strict=True):
        object.__setattr__(proposal, "atoms", cell)
    keys = record.store_decision(campaign, decided)
    for key, (_, cell) in zip(keys, cells, strict=True):
        label(record, claims, session, campaign, key, cell, "EF")
    return list(zip(keys, (n for n, _ in cells), strict=True))


def test_members_and_values_stay_as_they_were(record, claims, session, campaign, rattles) -> None:
    frozen = freeze(record.database, "mine", "natoms<=4")
    assert (frozen.members, frozen.content["labels"]) == (24, {"E": 24, "F": 24, "V": 0})
    before = [(r.calculation, r.labels.kinds, r.labels.forces.tobytes()) for r in members(record.database, "mine")]
    assert [k for k, *_ in before] == [key for key, n in rattles if n in (0, 3, 4)]
    key = before[0][0]
    label(record, claims, session, campaign, key, next(members(record.database, "mine")).structure_atoms(), "V")
    record.event(campaign, "withdrawn", "refuted", {"calculation": before[1][0]})
    assert [
        (r.calculation, r.labels.kinds, r.labels.forces.tobytes()) for r in members(record.database, "mine")
    ] == before
    assert verify(record.database, "mine") == []
    later = freeze(record.database, "later", "natoms<=4")
    assert (later.members, later.content["labels"]["V"]) == (23, 1)
    assert difference(record.database, "mine", "later") == difference(record.database, "mine", "later")
    found = difference(record.database, "mine", "later")
    assert (found.removed, found.added, found.changed) == ((before[1][0],), (), (before[0][0],))
    assert [d.name for d in datasets(record.database)] == ["mine", "later"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_split_keeps_every_family_on_one_side(record, rattles, seed: int) -> None:
    name = f"split-{seed}"
    frozen = freeze(record.database, name, split={"train": 0.6, "validation": 0.2, "test": 0.2}, seed=seed)
    parents = dict(rattles)
    sides = {part: {parents[r.calculation] for r in members(record.database, name, part)} for part in frozen.parts}
    assert {n for side in sides.values() for n in side} == set(range(5))
    assert sum(len(side) for side in sides.values()) == 5  # no parent on two sides
    assert frozen.parts == {"train": 24, "validation": 8, "test": 8}
    again = freeze(record.database, name + "-again", split={"train": 0.6, "validation": 0.2, "test": 0.2}, seed=seed)
    assert [r.part for r in members(record.database, name)] == [r.part for r in members(record.database, again.name)]
    assert verify(record.database, name) == []


def test_seeds_split_differently(record, rattles) -> None:
    sides = set()
    for seed in range(6):
        freeze(record.database, str(seed), split={"train": 0.6, "test": 0.4}, seed=seed)
        sides.add(tuple(r.part for r in members(record.database, str(seed))))
    assert len(sides) > 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(12)))
def test_families_do_not_hang_on_the_order(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    cells = []
    for parent in (
        bulk("Si", cubic=True),
        bulk("Cu", cubic=True),
        Atoms("Cu4", rng.normal(size=(4, 3)) * 4, pbc=False),
    ):
        for _ in range(4):
            cells.append(parent.copy())
            cells[-1].rattle(0.05, rng=rng)
    families = Families()
    numbers = {i: families.add(cells[i]) for i in order}
    found = [families.of(numbers[i]) for i in range(12)]
    assert [len(set(found[k : k + 4])) for k in (0, 4, 8)] == [1, 1, 1]
    assert len(set(found)) == 3


def test_a_chain_of_near_cells_is_one_family() -> None:
    """Both ends are far from each other, and the middle comes last."""
    cells = [bulk("Cu", cubic=True) * (2, 1, 1) for _ in range(3)]
    for cell, shift in zip(cells, (0.0, 1.6, 0.8), strict=True):
        cell.positions[1, 0] += shift
    families = Families()
    numbers = [families.add(c) for c in cells]
    assert numbers[0] != numbers[1]
    assert len({families.of(n) for n in numbers}) == 1


def test_what_was_changed_underneath_is_found(record, rattles) -> None:
    freeze(record.database, "mine")
    o = schema.observation.c
    with record.database.write() as connection:
        blob = connection.scalars(select(o.blob_id).where(o.kind == "F").limit(1)).one()
        data = pack_rows("result 2", {"E": np.array(-1.0), "F": np.zeros((4, 3))})
        connection.execute(update(schema.blob).where(schema.blob.c.id == blob).values(data=data))
    (fault,) = verify(record.database, "mine")
    assert "labels" in fault


def test_a_freeze_that_was_killed_is_begun_again(record, rattles) -> None:
    with record.database.write() as connection:
        values = {"name": "mine", "query": "", "members": 0, "digest": "", "content": {}, "created": 0.0}
        half = connection.scalars(insert(schema.dataset).values(values).returning(schema.dataset.c.id)).one()
        connection.execute(
            insert(schema.dataset_member).values(
                dataset_id=half, ordinal=0, calculation_id=1, kinds="E", meta={}, digest="x"
            )
        )
    assert datasets(record.database) == []
    with pytest.raises(RecordError, match="holds none yet"):
        find(record.database, "mine")
    assert freeze(record.database, "mine").members == 40
    assert verify(record.database, "mine") == []


def test_refusals_leave_nothing_behind(record, rattles) -> None:
    freeze(record.database, "taken", "natoms=4")
    for words, arguments in (
        ("already", {"name": "taken"}),
        ("no label fits", {"name": "empty", "query": "natoms>99"}),
        ("did you mean", {"name": "wrong", "query": "natom>99"}),
        ("add up to 1", {"name": "uneven", "split": {"train": 0.5, "test": 0.2}}),
        ("leave the part", {"name": "few", "query": "formula=Ni4", "split": {"train": 0.5, "test": 0.5}}),
        ("printable", {"name": " \n"}),
    ):
        with pytest.raises(RecordError, match=words):
            freeze(record.database, **arguments)
    with pytest.raises(RecordError, match="no part"):
        members(record.database, "taken", "train")
    assert [d.name for d in datasets(record.database)] == ["taken"]
    with record.database.read() as connection:
        assert set(connection.scalars(select(schema.dataset_member.c.dataset_id))) == {
            find(record.database, "taken").id
        }


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 30), min_size=3), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_parts_are_near_their_shares(sizes: dict[int, int], seed: int) -> None:
    try:
        parts = assigned(sizes, {f: str(f) for f in sizes}, {"a": 0.7, "b": 0.3}, seed)
    except RecordError:
        return
    share = sum(n for f, n in sizes.items() if parts[f] == "a") / sum(sizes.values())
    assert abs(share - 0.7) <= max(sizes.values()) / sum(sizes.values())
