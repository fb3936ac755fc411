"""The laws of the contract: what each check calls, compares and concludes (`contract` runs them)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farfield.errors import OracleError
from farfield.oracles import derivatives, gate
from farfield.oracles.fingerprint import fingerprint_text
from farfield.oracles.noise import Noise, equal_cells, measured
from farfield.oracles.observation import VOIGT, Observations
from farfield.oracles.probe import SAFETY, Finding, NotJudgedError, Probe, unit

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LAWS", "Law", "measure_noise"]

Array = NDArray[np.float64]
MESH_BOUND = 1e-4
"""eV per atom between equivalent meshes (decisions C2)."""


def _answer(p: Probe) -> Finding:
    """One call passes the gate and leaves the atoms alone."""
    before = p.atoms.copy()
    given = p.atoms.copy()
    p.call(given, p.kinds)
    if given != before:
        return Finding(False, "the oracle changed the atoms that it was given; work on a copy")
    answered = p.base.kinds
    return Finding(True, f"{', '.join(answered)} are finite, of the right shape, and forces sum to zero")


def _for_larger(p: Probe, kind: str) -> bool:
    """Whether `kind` is answered for the doubled cell."""
    try:
        return kind in p.call(p.atoms.repeat(2), (kind,)).values
    except OracleError:
        return False


def _kinds(p: Probe) -> Finding:
    """Every kind that the oracle says it supports is answered, alone as well as with the others.

    One that it refuses for this cell, with a reason, must be answered for a cell of twice the size.
    """
    told = ""
    for kind in sorted(p.oracle.supports):
        if kind not in p.base.values:
            why = p.base.missing.get(kind, "it gives no reason")
            if not _for_larger(p, kind):
                return Finding(False, f"the oracle says that it supports {kind} and leaves it out ({why})")
            told += f"; {kind} is answered for a larger cell, here it is {why}"
            continue
        alone = p.call(p.atoms.copy(), (kind,))
        off = float(np.abs(np.asarray(alone.values[kind]) - np.asarray(p.base.values[kind])).max())
        if off > p.allowed(kind):
            return Finding(
                False, f"{kind} asked alone differs by {off:.3g} {unit(kind)} from {kind} asked with the others"
            )
    return Finding(True, f"{', '.join(p.base.kinds)} are answered, each alone as with the others{told}")


def _fingerprint(p: Probe) -> Finding:
    """The fingerprint is JSON and does not change from call to call."""
    if fingerprint_text(p.oracle) != fingerprint_text(p.oracle):
        return Finding(False, "the fingerprint differs from call to call; leave times and paths out of it")
    return Finding(True, "it is JSON and stays the same")


def _own_answer(p: Probe) -> Finding:
    """Another cell gets another answer: nothing is left over from the last call."""
    other = p.moved(np.random.default_rng(4).normal(scale=0.05, size=(len(p.atoms), 3)))
    p.ask(p.atoms)
    if gate.repeated(p.atoms, p.base, other, p.ask(other)):
        return Finding(False, "two different cells have the same answer, bit for bit: is it that of the last call?")
    return Finding(True, "different cells have different answers")


def _repeatability(p: Probe) -> Finding:
    """The same cell again, after others in between, gives the same answer; to the last bit where analytic."""
    answers = [p.base]
    for k in range(2):
        p.ask(p.moved(np.random.default_rng(5 + k).normal(scale=0.05, size=(len(p.atoms), 3))))
        answers.append(p.ask(p.atoms))
    finding = p.agree(answers[1], answers[2], "the same cell gives the same answer")  # before its spread is allowed for
    for kind in p.base.kinds:
        values = np.array([np.asarray(a.values[kind], float) for a in answers])
        p.spread[kind] = float(np.ptp(values, axis=0).max())
    if p.oracle.analytic and any(p.spread.values()):
        worst = max(p.spread, key=lambda k: p.spread[k])
        text = f"{worst} varies by {p.spread[worst]:.3g} {unit(worst)}; an oracle that says analytic repeats every bit"
        return Finding(False, text, p.spread[worst], 0.0, unit(worst))
    if not p.oracle.analytic:
        said = ", ".join(f"{k} by {s:.2g} {unit(k)}" for k, s in p.spread.items())
        return Finding(True, f"three equal calls differ in {said}: judged as noise, and allowed for")
    return finding


def _doubled(p: Probe) -> Finding:
    """Two copies of the cell have twice the energy and the same forces. Not for a mesh: there it is no law."""
    one, two = p.base, p.ask(p.atoms * (2, 1, 1))
    if "E" in one.values and "E" in two.values:
        first, second = float(one.values["E"]), float(two.values["E"])
        if abs(first) > 1e-3 and abs(second / first - 1) < 0.01:
            p.per_atom = True
            return Finding(False, "the doubled cell has the energy of the cell: give totals, not energies per atom")
    if p.oracle.mesh != "none":
        raise NotJudgedError(f"no law for an oracle with the mesh {p.oracle.mesh!r}")
    values: dict[str, Any] = {}
    if "E" in two.values:
        values["E"] = float(two.values["E"]) / 2
    if "F" in two.values:
        values["F"] = np.asarray(two.values["F"])[: len(p.atoms)]  # ASE repeats cell by cell
    return p.agree(one, Observations(values), "the doubled cell has twice the energy and the same forces", "EF")


def _meshes(p: Probe) -> Finding:
    """A supercell has the energy per atom of the cell with the folded mesh (decisions C2).

    Where the mesh can be set, the cell is given it as ``atoms.info["mesh"]``; else a supercell is looked for whose own
    mesh, told in `Observations.settings`, is the cell's folded.
    """
    if p.oracle.mesh == "none":
        raise NotJudgedError("the oracle has no mesh")
    if p.oracle.mesh == "settable":
        mesh_of = getattr(p.oracle, "mesh_of", None)
        if not callable(mesh_of):
            return Finding(False, "the oracle's mesh is settable, but it has no method mesh_of(atoms)")
        repeat = (2, 1, 1)
        many = p.atoms * repeat
        theirs = list(mesh_of(many))
        one = p.atoms.copy()
        one.info["mesh"] = (2 * theirs[0], theirs[1], theirs[2])
        if tuple(mesh_of(one)) != one.info["mesh"]:
            return Finding(False, f"the cell was given the mesh {one.info['mesh']} and gets {tuple(mesh_of(one))}")
        return _folded(p, p.ask(one), one.info["mesh"], p.ask(many), theirs, repeat)
    mesh = p.base.settings.get("mesh")
    if mesh is None:
        raise NotJudgedError("the oracle does not tell its mesh: put it into Observations.settings['mesh']")
    seen = []
    for repeat in ((2, 1, 1), (1, 2, 1), (1, 1, 2), (3, 1, 1)):
        answer = p.ask(p.atoms * repeat)
        theirs = list(answer.settings.get("mesh") or ())
        if [m * n for m, n in zip(theirs, repeat, strict=False)] == list(mesh):
            return _folded(p, p.base, mesh, answer, theirs, repeat)
        seen.append("x".join(map(str, theirs)))
    raise NotJudgedError(f"no folded mesh of {list(mesh)} among {', '.join(seen)}: use a cell or spacing that has one")


def _folded(
    p: Probe,
    one: Observations,
    mesh: Sequence[int],
    many: Observations,
    theirs: Sequence[int],
    repeat: tuple[int, int, int],
) -> Finding:
    """Whether `repeat` cells with the mesh `theirs` have the energy of as many with `mesh`."""
    n = len(p.atoms)
    off = abs(float(p.value(many, "E")) / (repeat[0] * repeat[1] * repeat[2]) - float(p.value(one, "E"))) / n
    limit = MESH_BOUND + SAFETY * p.noise("E") / n
    shape, first, second = ("x".join(map(str, k)) for k in (repeat, theirs, mesh))
    return Finding(
        off <= limit, f"{shape} cells with the mesh {first} against one with {second}", off, limit, "eV/atom"
    )


def _translation(p: Probe) -> Finding:
    """A shift of all atoms by no fraction of any grid changes nothing."""
    shifted = p.moved(np.array([0.037, -0.031, 0.023]) @ p.atoms.cell.array)
    return p.agree(p.base, p.ask(shifted), "E, F and V of a shifted cell agree")


def _images(p: Probe) -> Finding:
    """Atoms moved by whole lattice vectors are the same atoms."""
    hops = np.random.default_rng(8).integers(-1, 2, size=(len(p.atoms), 3))
    hops[0] = (1, -1, 0)
    there = p.moved(hops @ p.atoms.cell.array)
    return p.agree(p.base, p.ask(there), "atoms moved by lattice vectors change nothing")


def _rotation(p: Probe) -> Finding:
    """Turning cell and atoms turns the forces and the virial with them."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    turned = p.atoms.copy()
    turned.set_cell(p.atoms.cell.array @ turn.T)
    turned.positions = p.atoms.positions @ turn.T
    values: dict[str, Any] = dict(p.base.values)
    if "F" in values:
        values["F"] = np.asarray(values["F"]) @ turn.T
    if "V" in values:
        tensor = np.zeros((3, 3))
        for (i, j), v in zip(VOIGT, np.asarray(values["V"]), strict=True):
            tensor[i, j] = tensor[j, i] = v
        tensor = turn @ tensor @ turn.T
        values["V"] = np.array([tensor[i, j] for i, j in VOIGT])
    return p.agree(Observations(values), p.ask(turned), "E, F and V turn with the cell")


def _permutation(p: Probe) -> Finding:
    """The order of the atoms does not matter; forces follow their atoms."""
    order = np.random.default_rng(2).permutation(len(p.atoms))
    values: dict[str, Any] = dict(p.base.values)
    if "F" in values:
        values["F"] = np.asarray(values["F"])[order]
    return p.agree(Observations(values), p.ask(p.atoms[order]), "E, F and V do not depend on the order of the atoms")


def measure_noise(ask: Callable[[Atoms], Observations], atoms: Atoms) -> Noise:
    """The noise between the cell, two translations of it and a permutation (decisions C10)."""
    answers: list[dict[str, Any]] = [dict(ask(atoms).values)]
    for cell, order in equal_cells(atoms):
        values = dict(ask(cell).values)
        if "F" in values:
            values["F"] = np.asarray(values["F"])[np.argsort(order)]
        answers.append(values)
    return measured(len(atoms), answers)


def _noise(p: Probe) -> Finding:
    """sigma_E, sigma_F and sigma_V; an analytic oracle declares that it has none (other checks see to that)."""
    s, t = measure_noise(p.ask, p.atoms), p.tolerances
    if p.per_atom:
        s = Noise(s.energy * len(p.atoms), s.force, s.virial)
    text = str(s)
    if p.oracle.analytic:
        return Finding(None, text + "; it declares itself analytic")
    pairs = ((s.energy, t.energy), (s.force, t.force), (s.virial, t.virial))
    share = max(x / (t.noise * bound) for x, bound in pairs if x is not None)
    return Finding(share <= 1, text, share, 1.0, "x bound")


def _time(p: Probe) -> Finding:
    """Wall time of a call, and its exponent in the number of atoms from one, two and four cells."""
    sizes: list[int] = []
    seconds: list[float] = []
    for repeat in ((1, 1, 1), (2, 1, 1), (2, 2, 1)):
        cell = p.atoms * repeat
        taken: list[float] = []
        while not taken or (len(taken) < 3 and sum(taken) < 1):  # the first call may load what the others find
            began = time.perf_counter()
            answer = p.ask(cell)
            taken.append(answer.seconds or time.perf_counter() - began)
        sizes.append(len(cell))
        seconds.append(min(taken))
        if seconds[-1] > 60:
            break
    text = f"{seconds[0]:.3g} s for {sizes[0]} atoms"
    if len(sizes) > 1:
        exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
        text += f", {seconds[-1]:.3g} s for {sizes[-1]}: as atoms^{exponent:.2f}"
    return Finding(None, text, seconds[0], None, "s")


@dataclass(frozen=True)
class Law:
    """A check, the kinds that it needs, and whether nothing after it can be judged when it fails."""

    check: Callable[[Probe], Finding]
    needs: frozenset[str] = frozenset()
    fatal: bool = False


LAWS: dict[str, Law] = {
    "answer": Law(_answer, fatal=True),
    "own answer": Law(_own_answer, fatal=True),
    "fingerprint": Law(_fingerprint),
    "repeatability": Law(_repeatability),
    "declared kinds": Law(_kinds),
    "doubled cell": Law(_doubled),
    "energies across meshes": Law(_meshes, frozenset("E")),
    "F = -dE/dx": Law(derivatives.forces, frozenset("EF")),
    "V = -dE/d(strain)": Law(derivatives.virial, frozenset("EV")),
    "force constants": Law(derivatives.force_constants, frozenset("F")),
    "no jumps": Law(derivatives.no_jumps, frozenset("EV")),
    "translation": Law(_translation),
    "periodic images": Law(_images),
    "rotation": Law(_rotation),
    "permutation": Law(_permutation),
    "noise": Law(_noise, frozenset("EF")),
    "time of a call": Law(_time),
}
"""In the order in which they are made: what later ones allow for is found first."""
