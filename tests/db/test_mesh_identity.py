"""A cell's own k-point mesh is part of its identity, in the record and on the way to the oracle."""

from __future__ import annotations

import pytest
from ase.build import bulk

from farfield.db.identity import structure_atoms, structure_bytes, structure_key
from farfield.errors import RecordError
from farfield.oracles.child import decode_call, encode_call


def test_two_meshes_are_two_calculations_and_none_is_a_third() -> None:
    keys = set()
    for mesh in (None, (2, 2, 2), (4, 4, 4), (2, 2, 4)):
        atoms = bulk("Al")
        if mesh is not None:
            atoms.info["mesh"] = mesh
        keys.add(structure_key(atoms))
        assert structure_atoms(structure_bytes(atoms)).info.get("mesh") == mesh
        assert decode_call(encode_call(atoms, ("E",), ""))[0].info.get("mesh") == mesh
    assert len(keys) == 4


def test_a_list_and_a_tuple_are_the_same_mesh_and_nonsense_is_refused() -> None:
    one, two = bulk("Al"), bulk("Al")
    one.info["mesh"], two.info["mesh"] = (3, 3, 3), [3, 3, 3]
    assert structure_key(one) == structure_key(two)
    one.info["mesh"] = (0, 3, 3)
    with pytest.raises(RecordError, match="three positive integers"):
        structure_bytes(one)
