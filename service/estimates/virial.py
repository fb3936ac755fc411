"""The virial mismatch under homogeneous strain: eps_V, eps_C and eta_V (decisions C3, theory.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.observation import VOIGT

__all__ = ["VirialMismatch", "eta_v", "full", "piola", "virial_mismatch"]

Array = NDArray[np.float64]


def full(voigt: Array) -> Array:
    """Symmetric (3, 3) from Voigt xx yy zz yz xz xy (6,)."""
    out = np.empty((3, 3))
    for k, (a, b) in enumerate(VOIGT):
        out[a, b] = out[b, a] = voigt[k]
    return out


def piola(virial: Array, strain: Array, natoms: int) -> Array:
    """First Piola stress per atom, dW/dF at F = 1 + strain: -V (1 + strain)^-T / N, eV (3, 3).

    `virial` (6,) Voigt, eV: V = -dE/d(eps) for the further strain x -> (1 + eps) x.
    """
    return np.asarray(-full(virial) @ np.linalg.inv(np.eye(3) + strain).T / natoms)


@dataclass(frozen=True)
class VirialMismatch:
    """Even (`eps_V`) and odd (`eps_C`) part of the Piola mismatch, eV per atom and unit strain (rms over strains).

    eps_V = rms |[dP(e) + dP(-e)]/2 - dP(0)| / |e|^2; eps_C = rms |dP(e) - dP(-e)| / (2 |e|). `largest`: the maximum of
    their sum over the strains, for bounds.
    """

    eps_V: float
    eps_C: float
    largest: float

    @property
    def total(self) -> float:
        """eps_V + eps_C, which T1 to T3 use in place of eps_V."""
        return self.eps_V + self.eps_C


def virial_mismatch(zero: Array, pairs: Sequence[tuple[Array, Array, Array]], natoms: int) -> VirialMismatch:
    """From the virial mismatch V - V^h: `zero` (6,) at no strain, `pairs` of (e (3, 3), at +e, at -e)."""
    origin = piola(zero, np.zeros((3, 3)), natoms)
    even, odd = [], []
    for e, plus, minus in pairs:
        size = float(np.linalg.norm(e))
        p, m = piola(plus, e, natoms), piola(minus, -e, natoms)
        even.append(float(np.linalg.norm((p + m) / 2 - origin)) / size**2)
        odd.append(float(np.linalg.norm((p - m) / 2)) / size)
    return VirialMismatch(_rms(even), _rms(odd), float(max(a + b for a, b in zip(even, odd, strict=True))))


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def eta_v(mismatch: float, tail_l4: float, gamma: float, s2: float) -> float:
    """eta_V in Å: mismatch * ||Du||^2_{l4(>L)} / (gamma s2^{3/2}) (T2).

    `mismatch` in eV, `tail_l4` = ||Du||_{l4(>L)} in Å, `gamma` in eV/Å^2, `s2` in Å^2.
    """
    return float(mismatch * tail_l4**2 / (gamma * s2**1.5))
