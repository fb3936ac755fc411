"""The teacher: a saved surrogate as the oracle of another campaign, so that all of it can be rehearsed on a laptop.

It answers exactly what a surrogate can learn, without noise and in milliseconds: what remains of an estimated error is
then the campaign's own. It lives here and not with the other oracles, since those know nothing of surrogates (B1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farfield.errors import BasisError, OracleError, OracleParameterError
from farfield.oracles.observation import Observations
from farfield.oracles.oracle import MeshRule
from farfield.service.surrogate.model import Surrogate

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["TeacherOracle"]


class TeacherOracle:
    """Energy, forces and virial of the surrogate saved in `file`, e.g. the surrogate.farfield of a run folder."""

    name = "teacher"
    supports = frozenset({"E", "F", "V"})
    mesh: MeshRule = "none"
    analytic = True

    def __init__(self, file: str) -> None:
        try:
            data = Path(file).read_bytes()
            self.surrogate = Surrogate.from_bytes(data)
        except OSError as error:
            raise _wrong(file, f"cannot be read: {error.strerror}; check the path") from error
        except BasisError as error:
            raise _wrong(file, f"holds no surrogate: {error}") from error
        self._hash = hashlib.sha256(data).hexdigest()

    def check_species(self, symbols: Sequence[str]) -> None:
        """Raise OracleError (input error) for elements that the surrogate was not fitted to."""
        known = self.surrogate.basis.species
        if unknown := sorted(set(symbols) - set(known)):
            raise OracleError(
                f"the teacher knows {', '.join(known)} and not {', '.join(unknown)}; use another file",
                failure="input error",
            )

    def fingerprint(self) -> Mapping[str, Any]:
        """The hash of the file, wherever it lies."""
        return {"adapter": "teacher", "physics": 1, "surrogate": self._hash}

    def cost(self, natoms: int) -> float:
        """About 0.1 ms per atom on one core."""
        return 1e-4 * natoms

    def evaluate(self, atoms: Atoms, kinds: Sequence[str]) -> Observations:
        """E (eV), F (eV/Å) and V (eV) of `atoms`. Raises OracleError (input error) for atoms it cannot describe."""
        try:
            energy, forces, virial = self.surrogate.evaluate(atoms)
        except BasisError as error:
            raise OracleError(f"the teacher refuses the cell: {error}", failure="input error") from error
        values: dict[str, Any] = {"E": energy, "F": forces, "V": virial}
        return Observations({k: values[k] for k in kinds if k in values})


def _wrong(file: str, what: str) -> OracleParameterError:
    key = "oracle.parameters.file"
    return OracleParameterError(f"oracle 'teacher': {key} = {file!r} {what}", key=key)
