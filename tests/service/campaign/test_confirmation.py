"""The pure rules about labels in doubt: where doubt begins, and that dE = -F dx parts sound labels from false ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from farfield.oracles.emt import EMTOracle
from farfield.service.campaign.decision import Answer, Proposal
from farfield.service.campaign.suspects import (
    EARLY,
    ENERGY,
    FORCE,
    VIRIAL,
    Mismatch,
    confirmation,
    doubt,
    refutation,
)
from farfield.service.cells import Defect, DefectCell, Host, strained

EMT = EMTOracle()
CU = Host.named("fcc", ["Cu"], 3.6)
CELL = DefectCell(CU, Defect.named(CU, "vacancy"), (2, 2, 2))
Kinds = tuple[str, ...]


def asked(atoms: Atoms, kinds: Kinds = ("E", "F", "V"), role: str = "training") -> Proposal:
    return Proposal(0, atoms, kinds, role, "start", (2, 2, 2), {})


def answered(p: Proposal, sigma: float = 0.0, rng: np.random.Generator | None = None) -> Answer:
    v: dict[str, Any] = EMT.evaluate(p.atoms, ("E", "F", "V")).values
    noise = sigma * (rng.normal() if rng is not None else 0.0)
    got = {"E": ("energy", float(v["E"]) + noise), "F": ("forces", v["F"]), "V": ("virial", v["V"])}
    return Answer(p.ordinal, "key", **dict(got[k] for k in p.kinds))


def verdict(
    kind: str, p: Proposal, a: Answer, off: Mismatch, *, sigma: float = 0.0, rng: np.random.Generator | None = None
) -> str | None:
    """What the oracle's own nearby cells say of the answer `a`."""
    analytic = sigma == 0
    cells = confirmation(kind, p, a, off, analytic=analytic, sigma=sigma, traceless=False)
    proposals = [Proposal(k, *c) for k, c in enumerate(cells)]
    tests = [(q, answered(q, sigma, rng)) for q in proposals]
    return refutation(kind, p, a, off, tests, analytic=analytic, sigma=sigma)


def disputed(natoms: int, rng: np.random.Generator, size: float = 1.0) -> Any:
    """A mismatch of `size` eV/Å in the force of one atom."""
    m = np.zeros((natoms, 3))
    m[rng.integers(natoms)] = rng.normal(size=3)
    return size * m / np.linalg.norm(m)


@pytest.mark.parametrize(
    ("role", "off", "kind"),
    [
        ("training", Mismatch(0.0, np.full((4, 3), 0.57 * FORCE), None), None),
        ("training", Mismatch(0.0, np.full((4, 3), 0.59 * FORCE), None), "F"),
        ("verification", Mismatch(3.9 * ENERGY, np.zeros((4, 3)), None), None),
        ("verification", Mismatch(-4.1 * ENERGY, np.zeros((4, 3)), None), "E"),
        ("strain", Mismatch(None, np.zeros((4, 3)), np.full(6, 4.1 * VIRIAL)), "V"),
        ("training", Mismatch(0.0, np.zeros((4, 3)), np.full(6, 4.1 * VIRIAL)), None),
        ("training", Mismatch(np.inf, np.full((4, 3), np.nan), None), None),
    ],
)
def test_doubt_begins_at_the_floors(role: str, off: Mismatch, kind: str | None) -> None:
    found = doubt(role, 4, off, {}, {})
    assert (None if found is None else found.kind) == kind
    # residuals, noise and the first call raise them
    assert doubt(role, 4, off, {"E": 1.0, "F": 1.0, "V": 1.0}, {}) is None
    assert doubt(role, 4, off, {}, {"E": 1.0, "F": 1.0, "V": 1.0}) is None
    assert doubt(role, 4, off, {}, {}, early=True) is None
    if found is not None:
        far = Mismatch(
            None if off.energy is None else EARLY * off.energy,
            EARLY * np.asarray(off.forces),
            None if off.virial is None else EARLY * off.virial,
        )
        assert doubt(role, 4, far, {}, {}, early=True) is not None


@pytest.mark.parametrize("kinds", [("E", "F"), ("F",)])
@pytest.mark.parametrize("rattle", [0.0, 0.05, 0.2])
def test_sound_forces_are_confirmed_and_false_ones_refuted(kinds: Kinds, rattle: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        p = asked(CELL.atoms(rattle * rng.normal(size=(CELL.natoms, 3))), kinds)
        a = answered(p)
        m = disputed(CELL.natoms, rng)
        assert verdict("F", p, a, Mismatch(0.0, m, None)) is None
        assert verdict("F", p, replace(a, forces=a.forces + m), Mismatch(0.0, m, None)) is not None


def test_forces_of_zero_and_of_the_wrong_sign_are_refuted() -> None:
    rng = np.random.default_rng(6)
    p = asked(CELL.atoms(0.1 * rng.normal(size=(CELL.natoms, 3))))
    a = answered(p)
    assert a.forces is not None
    for lie in (0 * a.forces, -a.forces):
        assert verdict("F", p, replace(a, forces=lie), Mismatch(0.0, lie - a.forces, None)) is not None


@pytest.mark.parametrize("by", [-1.0, 0.7])
def test_a_false_energy_is_refuted_also_where_no_force_acts(by: float) -> None:
    p = asked(CU.atoms((2, 2, 2)))
    a = answered(p)
    off = Mismatch(by, np.zeros((32, 3)), None)
    assert verdict("E", p, a, off) is None
    assert verdict("E", p, replace(a, energy=(a.energy or 0.0) + by), off) is not None


def test_a_sound_virial_is_confirmed_and_one_of_the_wrong_sign_refuted() -> None:
    rng = np.random.default_rng(7)
    e = rng.normal(size=(3, 3))
    p = asked(strained(CU.atoms(), 0.02 * (e + e.T) / 2), ("F", "V"), "strain")
    a = answered(p)
    assert a.virial is not None
    off = Mismatch(None, np.zeros((4, 3)), -2 * a.virial)
    assert verdict("V", p, a, off) is None
    assert verdict("V", p, replace(a, virial=-a.virial), off) is not None


def test_noise_widens_the_step_and_does_not_spoil_the_verdict() -> None:
    rng = np.random.default_rng(8)
    sigma = 1e-3
    p = asked(CELL.atoms(0.05 * rng.normal(size=(CELL.natoms, 3))))
    for _ in range(30):
        a = answered(p, sigma, rng)
        m = disputed(CELL.natoms, rng, 2.0)
        (near,) = confirmation("F", p, a, Mismatch(0.0, m, None), analytic=False, sigma=sigma, traceless=False)
        assert np.linalg.norm(near[0].positions - p.atoms.positions) == pytest.approx(40 * np.sqrt(2) * sigma / 2)
        assert verdict("F", p, a, Mismatch(0.0, m, None), sigma=sigma, rng=rng) is None
        lie = replace(a, forces=a.forces + m)
        assert verdict("F", p, lie, Mismatch(0.0, m, None), sigma=sigma, rng=rng) is not None


def test_a_test_without_energy_says_so() -> None:
    p = asked(CELL.atoms(np.zeros((CELL.natoms, 3))))
    with pytest.raises(ValueError, match="no energy"):
        refutation("F", p, answered(p), Mismatch(0.0, None, None), [(p, Answer(0, "x"))], analytic=True, sigma=0.0)
