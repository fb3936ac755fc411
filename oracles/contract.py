"""The contract: named checks that any oracle must pass, run by a plug-in author or before money is spent (A10).

Each check makes a few calls on small changes of one cell and compares numbers that physics makes equal; its result is a
figure, the bound it must keep and a verdict. The checks themselves are in `laws`. In a test file of a plug-in::

    from farfield.oracles.contract import OracleContract, periodic_cell

    class TestMyOracle(OracleContract):
        def make_oracle(self):
            return MyOracle()

        def make_cell(self):
            return periodic_cell("fcc", "Al", 4.05)

and from the command line ``farfield oracle check mypackage --system fcc-Al``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from farfield.errors import OracleError
from farfield.oracles.laws import LAWS
from farfield.oracles.oracle import Oracle
from farfield.oracles.probe import Finding, NotJudgedError, Probe, Tolerances

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CHECKS", "CheckResult", "OracleContract", "Tolerances", "off_equilibrium", "periodic_cell", "run"]

CHECKS = tuple(LAWS)
"""Names of the checks, in the order in which they are made."""


@dataclass(frozen=True)
class CheckResult:
    """One named check. `passed` is None where there is no law to judge by; `figure` must not be above `bound` (`unit`);
    `detail` is one line."""

    name: str
    passed: bool | None
    detail: str
    figure: float | None = None
    bound: float | None = None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """pass, fail, or - where it is not judged."""
        return "-" if self.passed is None else "pass" if self.passed else "fail"


def run(
    oracle: Oracle,
    atoms: Atoms,
    *,
    tolerances: Tolerances | None = None,
    names: Sequence[str] | None = None,
    heard: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """The checks of `names` (default: all) on `atoms`, a small periodic cell off its equilibrium.

    An oracle that raises fails that check with its message. When the first checks, "answer" and "own answer", fail, no
    other is judged. Default tolerances: `Tolerances.of`. `heard` is told each result as it is there. Raises KeyError
    for an unknown name.
    """
    probe = Probe(oracle, atoms, tolerances or Tolerances.of(oracle))
    results: list[CheckResult] = []
    fatal = ""
    for name in names if names is not None else CHECKS:
        law = LAWS[name]
        lacking = sorted(law.needs - set(oracle.supports))
        if fatal:
            results.append(CheckResult(name, None, f"not judged: {fatal}"))
        elif lacking:
            results.append(CheckResult(name, None, f"the oracle does not give {', '.join(lacking)}"))
        else:
            try:
                results.append(_result(name, law.check(probe)))
            except NotJudgedError as why:
                results.append(CheckResult(name, None, str(why)))
            except OracleError as fault:
                results.append(CheckResult(name, False, f"{fault.failure}: {fault}"))
            if law.fatal and not results[-1].passed:
                fatal = f"the check {name!r} failed"
        if heard is not None:
            heard(results[-1])
    return results


def _result(name: str, found: Finding) -> CheckResult:
    passed = None if found.passed is None else bool(found.passed)  # numpy's own are no singletons
    return CheckResult(name, passed, found.detail, found.figure, found.bound, found.unit)


def off_equilibrium(atoms: Atoms, seed: int = 3) -> Atoms:
    """`atoms`, strained by 2 %, rattled by 0.05 Å and moved off the cell's faces, so that no symmetry hides a fault."""
    atoms = atoms.copy()
    strain = np.array([[0.02, 0.005, 0.0], [0.0, 0.0, 0.01], [0.005, 0.0, -0.02]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=(len(atoms), 3))
    atoms.positions += 0.12 * atoms.cell.array.sum(axis=0)
    return atoms


def periodic_cell(lattice: str, symbol: str, a: float | None = None) -> Atoms:
    """A conventional cell of ASE's `lattice` (fcc, bcc, diamond, ...; `a` in Å), made `off_equilibrium`."""
    from ase.build import bulk

    return off_equilibrium(bulk(symbol, lattice, a=a, cubic=True))


class OracleContract:
    """The contract as a pytest class: inherit it under a name that begins with ``Test``, one test for each check.

    Override `make_oracle` and `make_cell`; `tolerances` where the defaults (`Tolerances.of`) do not fit.
    """

    tolerances: Tolerances | None = None

    def make_oracle(self) -> Oracle:
        """The oracle under test."""
        raise NotImplementedError("return your oracle here")

    def make_cell(self) -> Atoms:
        """A small periodic cell off its equilibrium, see `periodic_cell`."""
        raise NotImplementedError("return a cell here, e.g. periodic_cell('fcc', 'Al')")

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test for each check; called by pytest."""
        if "check" in metafunc.fixturenames:
            metafunc.parametrize("check", CHECKS)

    def test_contract(self, check: str) -> None:
        """Fails with the check's own line; is skipped where there is nothing to judge."""
        own = type(self)
        found = own.__dict__.get("_found")
        if found is None:
            results = run(self.make_oracle(), self.make_cell(), tolerances=self.tolerances)
            found = {r.name: r for r in results}
            setattr(own, "_found", found)  # noqa: B010 - once for all checks of the class
        result: CheckResult = found[check]
        if result.passed is None:
            import pytest

            pytest.skip(result.detail)
        if not result.passed:
            raise AssertionError(f"{result.name}: {result.detail}")
