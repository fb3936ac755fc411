"""The estimate of one round: eta_geo, eta_E, their terms and the gates, as stored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farfield.service.cells import Size

__all__ = ["THETA_COMPLETE", "THETA_OTHER", "Estimate"]

THETA_COMPLETE = 1.5
"""Safety factor on complete rungs (decisions C6)."""
THETA_OTHER = 2.5
"""Safety factor on rungs that are not complete, which under-estimate (theory.md c2)."""


@dataclass(frozen=True)
class Estimate:
    """Estimated error of the surrogate that proposed the verification call of `decision`.

    Geometry in Å: eta_geo is the root of (assembled + v + fold)^2 + hidden^2; `core` and `fc` are the norms of their
    own parts and need not add up; `hidden`: what this rung cannot see (`reach`), zero where its longest edge is
    `fresh`, longer than any trained on, or the oracle's forces do not reach beyond it.
    `parametric_geo` (None where a gate failed) stands beside, `in_sample` is the same estimate after the refit and
    never decides (C6).
    Energy in eV: `eta_energy` is signed, formation_energy = formation_energy_raw + eta_energy.
    Framework quantities: eps_F (dual norm, eV/Å), eps_E (eV), eps_FC and eps_fold (eV/Å^2), eps_V and eps_C (eV).
    `bound_v`, `bound_fold`: the norm forms of T2 (C3, C4), Å.
    `grade`: the largest extrapolation grade of an atom at u^h (`surrogate.grade`), None where a gate failed.
    `noise`: what the oracle's force noise alone would give for `core`, Å (C10); None where it was not measured.
    `cell`: |E_f^h| in a target 1.5 times larger minus that in the target, eV (C13); None but at the stop.
    `eps_shift`: the surrogate's largest force on the perfect crystal, eV/Å; zero where symmetry fixes every site (A3).
    `limits`: formation energy, eV, where a compound host is rich in the species named (C9).
    `jump` = ||D(u_new - u_old)|| against the previous round's surrogate, Å; None on the first.
    """

    decision: int
    rung: Size
    complete: bool
    natoms: int
    half_width: float
    basis_size: int
    eta_geo: float
    assembled: float
    core: float
    fc: float
    v: float
    fold: float
    bound_v: float
    bound_fold: float
    parametric_geo: float | None
    eta_energy: float
    energy_core: float
    energy_tail: float
    energy_relaxation: float
    energy_bound_v: float
    parametric_energy: float | None
    formation_energy_raw: float
    formation_energy: float
    formation_energy_dilute: float | None
    relaxation_volume: float | None
    eps_E: float
    eps_F: float
    eps_FC: float
    eps_V: float
    eps_C: float
    eps_fold: float
    gamma: float
    tail_l2: float
    tail_l4: float
    jump: float | None
    soft: bool
    gates: dict[str, bool] = field(default_factory=dict)
    in_sample: float | None = None
    core_after: float | None = None
    grade: float | None = None
    noise: float | None = None
    cell: float | None = None
    limits: dict[str, float] | None = None
    eps_shift: float = 0.0
    hidden: float = 0.0
    fresh: bool = True
    reason: str = ""

    @property
    def theta(self) -> float:
        """The safety factor of this rung."""
        return THETA_COMPLETE if self.complete else THETA_OTHER

    @property
    def believed(self) -> bool:
        """Whether every gate is passed, so that the estimate may decide."""
        return all(self.gates.values())

    @property
    def guarded_geo(self) -> float:
        """What must lie within the tolerance, Å: eta_geo with theta times what was seen.

        `hidden` is a share of the estimate of a surrogate that was worse, and on the safe side itself.
        """
        seen = max(self.eta_geo**2 - self.hidden**2, 0.0)
        return float((self.theta**2 * seen + self.hidden**2) ** 0.5)

    def within(self, tol_geo: float, tol_energy: float) -> bool:
        """Both errors, with their safety factors, within the tolerances (Å, eV), and believed."""
        return self.believed and self.guarded_geo <= tol_geo and self.theta * abs(self.eta_energy) <= tol_energy

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict of all fields, with `theta`."""
        return {**asdict(self), "rung": list(self.rung), "theta": self.theta}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Estimate:
        """The inverse of `to_json`; unknown keys (of a later version) are left out."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in data.items() if k in known}
        a, b, c = values["rung"]
        return cls(**{**values, "rung": (int(a), int(b), int(c))})
