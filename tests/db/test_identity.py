"""Laws of identity: equal input, equal key; anything else that an oracle can see, another key."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.db.identity import calculation_key, ordered_kinds, structure_atoms, structure_bytes, structure_key
from farfield.errors import RecordError

finite = st.floats(-1e6, 1e6, allow_subnormal=True)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 118), finite, finite, finite), min_size=1, max_size=6),
    st.lists(finite, min_size=9, max_size=9),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.one_of(st.none(), finite),
)
def test_structures_come_back_bit_for_bit(rows, cell, pbc, moment) -> None:
    atoms = Atoms([r[0] for r in rows], [r[1:] for r in rows], cell=np.reshape(cell, (3, 3)), pbc=pbc)
    if moment is not None:
        atoms.set_initial_magnetic_moments([moment] * len(rows))
    data = structure_bytes(atoms)
    back = structure_atoms(data)
    assert structure_bytes(back) == data
    for ours, theirs in ((atoms.positions, back.positions), (atoms.cell.array, back.cell.array)):
        assert (ours + 0.0).tobytes() == theirs.tobytes()
    assert (atoms.numbers == back.numbers).all()
    assert (atoms.pbc == back.pbc).all()
    assert (atoms.get_initial_magnetic_moments() == back.get_initial_magnetic_moments()).all()
    assert structure_key(atoms) == hashlib.sha256(data).hexdigest()


def test_what_an_oracle_cannot_see_is_no_part_of_the_identity() -> None:
    plain = bulk("Cu", cubic=True)
    dressed = plain.copy()
    dressed.set_constraint(FixAtoms([0]))
    dressed.set_tags([1, 2, 3, 4])
    dressed.info["name"] = "x"
    dressed.set_initial_magnetic_moments(np.zeros(4))
    dressed.positions[0] = [-0.0, 0.0, -0.0]
    assert structure_key(dressed) == structure_key(plain)


@pytest.mark.parametrize("change", ["position", "species", "order", "cell", "pbc", "moment"])
def test_what_an_oracle_can_see_is(change: str) -> None:
    plain = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    other = plain.copy()
    if change == "position":
        other.positions[1, 2] = np.nextafter(other.positions[1, 2], 9)
    elif change == "species":
        other.numbers[0] = 19
    elif change == "order":
        other = other[::-1]
    elif change == "cell":
        other.cell[0, 0] += 1e-12
    elif change == "pbc":
        other.pbc[2] = False
    else:
        other.set_initial_magnetic_moments([0, 0, 0, 0, 0, 0, 0, 1e-3])
    assert structure_key(other) != structure_key(plain)


def test_calculations_differ_by_structure_and_by_oracle() -> None:
    keys = {calculation_key(s, f) for s in ("a" * 64, "b" * 64) for f in ("c" * 64, "d" * 64)}
    assert len(keys) == 4
    assert all(len(k) == 64 for k in keys)


def test_refused() -> None:
    with pytest.raises(RecordError, match="finite"):
        structure_bytes(Atoms("Cu", [[0, 0, np.nan]]))
    with pytest.raises(RecordError, match="atoms"):
        structure_bytes(Atoms())
    with pytest.raises(RecordError, match="restore the database"):
        structure_atoms(b"not ours")


def test_kinds_are_put_in_the_order_of_the_registry() -> None:
    assert ordered_kinds(("V", "E", "F", "E")) == ("E", "F", "V")
    for wrong in ((), ("FC",), ("E", "X")):
        with pytest.raises(RecordError, match="E, F, V"):
            ordered_kinds(wrong)
