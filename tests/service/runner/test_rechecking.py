"""Labels of others are believed only where the oracle says the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from farfield.db.bulk import Frame
from farfield.errors import RecordError
from farfield.oracles.contract import Tolerances
from farfield.oracles.emt import EMTOracle
from farfield.oracles.noise import Noise
from farfield.service.runner.rechecking import chosen, recheck


def labelled(count: int = 5) -> list[Frame]:
    oracle, out = EMTOracle(), []
    for i in range(count):
        atoms = bulk("Cu", cubic=True) * (1, 1, 1 + i % 3)
        atoms.rattle(0.05 * (i + 1), seed=i)
        answer = oracle.evaluate(atoms, ("E", "F", "V")).values
        out.append(Frame(atoms, answer["E"], answer["F"], answer["V"], f"frame {i}"))
    return out


def test_honest_labels_agree() -> None:
    oracle = EMTOracle()
    found = recheck(chosen(labelled()), oracle.evaluate, Tolerances.of(oracle))
    assert len(found) == len({r.name for r in found}) == 3
    assert max(v for r in found for v in r.differences.values()) < 1e-10


@pytest.mark.parametrize("kind", ["E", "F", "V"])
def test_a_label_that_is_off_is_refused_unless_noise_explains_it(kind: str) -> None:
    oracle, frames = EMTOracle(), labelled(1)
    (frame,) = frames
    off = {
        "E": {"energy": frame.energy + 0.01},
        "F": {"forces": frame.forces + 0.01},
        "V": {"virial": frame.virial + 0.01},
    }
    wrong = [replace(frame, **off[kind])]
    with pytest.raises(RecordError, match=rf"its {kind} is .* nothing was imported"):
        recheck(wrong, oracle.evaluate, Tolerances.of(oracle))
    recheck(wrong, oracle.evaluate, Tolerances.of(oracle), Noise(0.0025, 0.01, 0.0025))


def test_the_sign_of_a_virial_is_found_out() -> None:
    frames = [replace(f, virial=-f.virial) for f in labelled()]
    with pytest.raises(RecordError, match="its V is"):
        recheck(chosen(frames), EMTOracle().evaluate, Tolerances())


def test_the_hardest_frame_and_small_ones_are_chosen() -> None:
    frames = [*labelled(), Frame(bulk("Cu"), 0.0, None, None, "partial")]
    found = chosen(frames)
    smallest = [f for f in frames if len(f.atoms) == 4]
    assert found[0] is max(smallest, key=lambda f: np.linalg.norm(f.forces, axis=1).max())
    assert all(f.name != "partial" for f in found)
    assert chosen([]) == []
    assert [f.name for f in chosen(frames[:1])] == ["frame 0"]
