"""Selections: each label once, in the order it was proposed, whatever the page size."""

from __future__ import annotations

import pytest

from farfield.db.identity import structure_key
from farfield.db.query import Selection, select_labelled, selecting
from farfield.errors import RecordError


@pytest.fixture
def bought(record, claims, campaign, session, decide, answer):
    """Two campaigns of one oracle: seven cells, one of them shared, one outside any decision; the kinds of each."""
    second = record.create_campaign("second", {}, {"adapter": "emt", "version": 1})
    keys = record.store_decision(campaign, decide(0, 3, role="check"))
    keys += record.store_decision(campaign, decide(1, 2, role="verification", rung=(2, 2, 3)))
    record.store_decision(second, decide(0, 1, role="training"))
    outside = record.store_calculation(decide(8, 1).proposals[0].atoms, record.campaign("first").fingerprint_hash)
    for key, kinds in zip([*keys, outside], ("EFV", "EF", "", "V", "EFV", "EF"), strict=True):
        if kinds:
            attempt = claims.new_attempt(key, campaign, tuple(kinds))
            claims.claim(attempt, session)
            claims.finish(attempt, session, answer(kinds, energy_zero=1.0), 1.0)
    return [*keys, outside]


def found(record, *args, **filters) -> list[str]:
    return [row.calculation for row in select_labelled(record.database, *args, **filters)]


def test_everything_once_in_the_order_of_the_proposals(record, bought) -> None:
    assert found(record) == [bought[k] for k in (0, 1, 3, 4, 5)]
    assert found(record, Selection()) == found(record)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_do_not_show(record, bought, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    whole = found(record), found(record, campaign="first", kind="E")
    monkeypatch.setattr(selecting, "PAGE", size)
    assert (found(record), found(record, campaign="first", kind="E")) == whole


def test_filters(record, bought) -> None:
    assert found(record, campaign="first") == [bought[k] for k in (0, 1, 3, 4)]
    assert found(record, campaign="second") == [bought[0]]
    assert found(record, kind="V") == [bought[k] for k in (0, 3, 4)]
    assert found(record, role="verification") == [bought[3], bought[4]]
    assert found(record, campaign="second", role="training") == [bought[0]]
    assert found(record, natoms=4, campaign="second") == [bought[0]]
    assert found(record, natoms=(5, 9)) == []
    assert found(record, fingerprint="f" * 64) == []


def test_rows_carry_arrays_first_and_atoms_on_demand(record, bought, decide, answer) -> None:
    first, *_, last = select_labelled(record.database)
    atoms = decide(0, 3).proposals[0].atoms
    assert first.structure == structure_key(atoms) == structure_key(first.structure_atoms())
    assert (first.campaign, first.decision, first.ordinal, first.role, first.rung) == (
        "first",
        0,
        0,
        "check",
        (1, 1, 1),
    )
    assert (last.campaign, last.decision, last.role) == (None, None, None)
    assert first.forces.tobytes() == answer().values["F"].tobytes()
    dressed = first.atoms()
    assert dressed.get_potential_energy() == -3.7
    assert dressed.get_stress() * -dressed.get_volume() == pytest.approx(first.labels.virial)


def test_refusals(record, bought) -> None:
    for wrong, words in (
        ({"campaign": "none"}, "no campaign 'none'"),
        ({"kind": "FC"}, "E, F or V"),
        ({"energy": 3}, "fields are campaign, kind, natoms"),
    ):
        with pytest.raises(RecordError, match=words):
            found(record, **wrong)


def test_labels_in_doubt_are_left_out_unless_they_are_asked_for(record, campaign, bought) -> None:
    before = found(record)
    for key in before[:3]:
        record.event(campaign, "suspect", "far off", {"calculation": key})
    record.event(campaign, "withdrawn", "refuted", {"calculation": before[0]})
    record.event(campaign, "confirmed", "sound", {"calculation": before[1]})
    assert found(record) == [before[1], *before[3:]]
    assert found(record, doubted=True) == before


def test_labels_on_atoms_are_of_those_positions_and_of_no_others(record, bought) -> None:
    import copy
    import pickle

    from ase.calculators.calculator import PropertyNotImplementedError

    (row, *_) = select_labelled(record.database)
    atoms = row.atoms()
    for twin in (atoms, pickle.loads(pickle.dumps(atoms)), copy.deepcopy(atoms)):
        assert twin.get_potential_energy() == row.labels.energy
        assert twin.get_forces().tobytes() == row.labels.forces.tobytes()
        assert twin.calc.atoms == row.structure_atoms()
        twin.positions[0, 0] += 1e-3
        with pytest.raises(PropertyNotImplementedError):
            twin.get_potential_energy()
