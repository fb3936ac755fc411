from __future__ import annotations

import numpy as np
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from harmonic import FC_SIZE, HOST, constants

from farfield.service.cells import Defect, DefectCell, Host
from farfield.service.estimates import LatticeOperator, Preconditioner, interpolate, relax


def preconditioner(cell: DefectCell, C) -> Preconditioner:  # type: ignore[no-untyped-def]
    return Preconditioner(cell, LatticeOperator(cell.host, cell.size, interpolate(cell.host, C, FC_SIZE, cell.size)))


def test_a_harmonic_crystal_takes_one_step(oracle, model) -> None:  # type: ignore[no-untyped-def]
    cell = DefectCell(HOST, Defect(changed=((0, "Cu"),)), (3, 3, 3))
    load = np.random.default_rng(0).normal(size=(cell.natoms, 3))
    load -= load.mean(axis=0)
    op = oracle.operator(cell.size)

    def evaluate(x):  # type: ignore[no-untyped-def]
        u = x - cell.x0
        return 0.5 * op.energy(u) - float((load * u).sum()), load - op.apply(u)

    exact = op.solve(load)
    run = relax(evaluate, cell, 0.1 * load, Preconditioner(cell, op), max_move=10.0)
    assert run.converged
    assert run.steps == 1
    assert np.allclose(run.u, exact, atol=1e-6)
    other = relax(evaluate, cell, 0.1 * load, Preconditioner(cell, model.operator(cell.size)), max_move=10.0)
    assert other.converged  # any positive preconditioner finds the same minimum
    assert np.allclose(other.u, exact, atol=1e-4)


def test_same_minimum_as_another_optimiser(morse) -> None:  # type: ignore[no-untyped-def]
    host = Host.named("fcc", ["Cu"], 3.59)
    cell = DefectCell(host, Defect.named(host, "vacancy"), (3, 3, 3))
    atoms = cell.atoms(np.zeros((cell.natoms, 3)))
    atoms.calc = EMT()

    def evaluate(x):  # type: ignore[no-untyped-def]
        atoms.positions[:] = x
        return atoms.get_potential_energy(), atoms.get_forces()

    start = 0.05 * np.random.default_rng(1).normal(size=(cell.natoms, 3))
    run = relax(evaluate, cell, start, preconditioner(cell, constants(morse)))
    assert run.converged
    assert run.force < 1e-5
    atoms.positions[:] = cell.x0 + start
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=300)
    theirs = atoms.positions - cell.x0
    assert abs(run.energy - atoms.get_potential_energy()) < 1e-6
    assert cell.norm(run.u - theirs) < 1e-3


def test_the_limit_on_steps_is_said(morse) -> None:  # type: ignore[no-untyped-def]
    cell = DefectCell(HOST, Defect.named(HOST, "vacancy"), (2, 2, 2))

    def evaluate(x):  # type: ignore[no-untyped-def]
        return morse(cell.atoms(x - cell.x0))[:2]

    start = 0.1 * np.random.default_rng(2).normal(size=(cell.natoms, 3))
    run = relax(evaluate, cell, start, preconditioner(cell, constants(morse)), max_steps=2)
    assert run.steps == 2
    assert not run.converged
