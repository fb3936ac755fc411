"""Any ASE calculator by its dotted name, without code: ``name = "ase"``, ``parameters.calculator = "pkg.Class"``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from farfield.errors import OracleError, OracleLoadError, OracleParameterError
from farfield.oracles.observation import Observations, virial_from_stress
from farfield.oracles.oracle import MeshRule

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["AseOracle"]


class AseOracle:
    """Any ASE calculator, named by module and class, made with its own parameters.

    It starts from the cell's initial magnetic moments; collinear moments that it gives are kept.

    Parameters: `calculator`, e.g. ``ase.calculators.lj.LennardJones``; `parameters` of the calculator; `analytic`: true
    for a force field, which has no noise; `mesh`: "none" (default where analytic) or "fixed" (else), see
    `oracle.MeshRule`; `supports`: the kinds it gives.
    """

    name = "ase"

    def __init__(
        self,
        calculator: str,
        parameters: Mapping[str, Any] | None = None,
        analytic: bool = False,
        mesh: str | None = None,
        supports: Sequence[str] = ("E", "F", "V"),
    ) -> None:
        unknown = sorted(set(supports) - {"E", "F", "V"})
        if unknown:
            raise OracleLoadError(f"oracle 'ase': supports lists {unknown}; an oracle answers E, F and V only")
        if mesh not in (None, "none", "fixed"):
            raise OracleLoadError(f"oracle 'ase': mesh is {mesh!r}; an ASE calculator has the mesh 'none' or 'fixed'")
        self.calculator = calculator
        self.parameters = dict(parameters or {})
        self.analytic = bool(analytic)
        self.mesh: MeshRule = "none" if (mesh or ("none" if analytic else "fixed")) == "none" else "fixed"
        self.supports = frozenset(supports)
        self._factory = _imported(calculator)
        _spelt(self._factory, self.parameters)
        try:
            self._made = self._factory(**self.parameters)
        except ImportError as error:
            raise OracleLoadError(f"{calculator} needs a package that is not installed: {error}; install it") from error
        except (TypeError, ValueError, KeyError, OSError, RuntimeError, NotImplementedError) as error:
            raise OracleLoadError(
                f"{calculator} refuses its parameters ({type(error).__name__}: {error}); see [oracle.parameters]"
            ) from error

    def fingerprint(self) -> Mapping[str, Any]:
        """The calculator's name, its parameters, and the releases of ASE and of the package it comes from."""
        import ase

        package = self.calculator.partition(".")[0]
        release = str(getattr(importlib.import_module(package), "__version__", "unknown"))
        return {
            "adapter": "ase",
            "physics": 1,
            "calculator": self.calculator,
            "parameters": self.parameters,
            "ase": ase.__version__,
            "release": release,
        }

    def cost(self, natoms: int) -> float:
        """A guess, since the calculator is not known: 1 ms per atom for a force field, else 1 s."""
        return (1e-3 if self.analytic else 1.0) * natoms

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E, F, V of periodic `atoms`; E is ``free_energy`` where the calculator gives it (decisions C1).

        Raises OracleError: "not supported" where a property is not implemented for all kinds, "not converged", or
        "crashed" for what the calculator raises. A kind alone that is not implemented goes to `missing`.
        """
        from ase.calculators.calculator import (
            CalculationFailed,
            CalculatorSetupError,
            InputError,
            PropertyNotImplementedError,
            SCFError,
        )

        if hasattr(self._made, "reset"):
            self._made.reset()  # the same cell twice is computed twice: the noise is measured so
        work = atoms.copy()
        work.calc = self._made
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        zero = None
        for kind in kinds:
            try:
                if kind == "E":
                    zero = float(work.get_potential_energy())
                    free = getattr(self._made, "results", {}).get("free_energy")
                    values["E"] = zero if free is None else float(free)
                elif kind == "F":
                    values["F"] = work.get_forces(apply_constraint=False)
                elif kind == "V":
                    values["V"] = virial_from_stress(work.get_stress(apply_constraint=False), work.get_volume())
            except (PropertyNotImplementedError, NotImplementedError) as error:
                missing[kind] = " ".join(f"not supported: {error}".split())
            except (InputError, CalculatorSetupError) as error:
                raise OracleError(f"{self.calculator} refuses its input: {error}", failure="input error") from error
            except SCFError as error:
                raise OracleError(f"{self.calculator} did not converge: {error}", failure="not converged") from error
            except CalculationFailed as error:
                raise OracleError(f"{self.calculator} failed: {error}", failure="crashed") from error
        if not values:
            raise OracleError("; ".join(missing.values()), failure="not supported")
        moments = np.asarray(getattr(self._made, "results", {}).get("magmoms", ()), float)
        collinear = moments.shape == (len(atoms),) and bool(np.isfinite(moments).all())
        return Observations(values, energy_zero=zero, moments=moments if collinear else None, missing=missing)


def _spelt(factory: Any, parameters: Mapping[str, Any]) -> None:
    """Refuse a key that is nearly one of the calculator's: ASE's own take any key and go on with their default."""
    known = [*getattr(factory, "default_parameters", {})]
    for key in parameters:
        if key not in known and (near := get_close_matches(key, known, n=1, cutoff=0.75)):
            if key in inspect.signature(factory).parameters:
                continue
            dotted = f"oracle.parameters.parameters.{key}"
            raise OracleParameterError(f"oracle 'ase': {dotted} is unknown; did you mean {near[0]}?", key=dotted)


def _imported(dotted: str) -> Any:
    module, _, attribute = dotted.rpartition(".")
    if not module:
        raise OracleLoadError(
            f"oracle calculator {dotted!r} is not a dotted name such as ase.calculators.lj.LennardJones"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise OracleLoadError(
            f"oracle calculator {dotted} cannot be imported: {error}; install its package or mend the name"
        ) from error
    except AttributeError as error:
        raise OracleLoadError(f"oracle calculator {dotted}: {error}; mend the name") from error
