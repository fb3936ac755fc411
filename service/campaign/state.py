"""The loop's state between rounds, as stored with each decision.

Everything that is not a label and that a resumed loop needs: the lattice constant, the surrogate of the round and its
solution u^h, flags, and the history of estimates (a few hundred bytes each).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farfield.oracles.noise import Noise
from farfield.oracles.packing import pack, unpack
from farfield.service.cells import Size
from farfield.service.cells.description import Geometry
from farfield.service.cells.host import Rows

__all__ = ["State"]

Array = NDArray[np.float64]


@dataclass
class State:
    """See the fields.

    `phase`: "lattice" -> "start" -> "rounds". `scan`: which of the host's free parameters is looked for (`lattice`);
    `shape`, `sites`: what was found beside the lattice constant. `edge`: of a target cell that was enlarged. `phases`:
    eV per atom of the reference phases. `rung`: the largest cell trained on or asked for. `fit_fc`, `fit_v`: whether FC
    and V rows are in the fit; `fc_boost` multiplies w_FC. `level`, `enlarged`: the basis and how often it grew;
    `restarts`: how often the first cells were asked anew, as none was left.
    `stalls`: successive rungs on which the refit did not halve the core residual.
    `open`: [decision, ordinal, role] of what had not come when the last decision was told (continuous rounds), and
    `taken_back` what of that no longer pays; `spent` and `speculated`: relative cost of all proposals so far and of the
    speculative ones.
    `withdrawn`: calculations kept out of fits; `suspects`: answers that were in doubt, with their verdicts. `noise`:
    the oracle's, None before it is measured and in states stored by earlier versions. `solution`: scalars of the
    round's surrogate. Arrays: `u` (N, 3) Å in the target cell, `coefficients` (K,), `old_u` of the round before,
    `second` (N, 3) Å of another basin that the first surrogate has within 0.1 eV (C11).
    """

    phase: str = "lattice"
    lattice_constant: float | None = None
    scan: int = 0
    shape: list[list[float]] | None = None
    sites: list[list[float]] | None = None
    edge: int | None = None
    phases: dict[str, float] = field(default_factory=dict)
    rung: Size | None = None
    fc_size: Size | None = None
    level: int = 0
    enlarged: int = 0
    fit_fc: bool = False
    fit_v: bool = False
    fc_boost: float = 1.0
    stalls: int = 0
    repairs: int = 0
    unanswered: int = 0
    restarts: int = 0
    eta_previous: float | None = None
    verification: int | None = None
    open: list[list[int | str]] = field(default_factory=list)
    taken_back: list[list[int]] = field(default_factory=list)
    spent: float = 0.0
    speculated: float = 0.0
    withdrawn: list[str] = field(default_factory=list)
    suspects: list[dict[str, Any]] = field(default_factory=list)
    noise: Noise | None = None
    solution: dict[str, Any] = field(default_factory=dict)
    estimates: list[dict[str, Any]] = field(default_factory=list)
    basis: dict[str, Any] | None = None
    u: Array | None = None
    old_u: Array | None = None
    coefficients: Array | None = None
    second: Array | None = None

    _ARRAYS = ("u", "old_u", "coefficients", "second")

    @property
    def geometry(self) -> Geometry:
        """Lattice constant, shape and sites, as `Problem` takes them."""

        def rows(values: list[list[float]] | None) -> Rows | None:
            return None if values is None else tuple((x, y, z) for x, y, z in values)

        return self.lattice_constant, rows(self.shape), rows(self.sites)

    def to_bytes(self) -> bytes:
        """Packed state; bytes are equal for equal states."""
        header: dict[str, Any] = {}
        arrays: dict[str, Array] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in self._ARRAYS:
                if value is not None:
                    arrays[f.name] = value
            elif isinstance(value, Noise):
                header[f.name] = value.to_json()
            else:
                header[f.name] = list(value) if isinstance(value, tuple) else value
        return pack(header, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """The inverse of `to_bytes`. Raises ValueError for foreign bytes."""
        header, arrays = unpack(data)
        for key in ("rung", "fc_size"):
            if header.get(key) is not None:
                a, b, c = header[key]
                header[key] = (int(a), int(b), int(c))
        if header.get("noise") is not None:
            header["noise"] = Noise.from_json(header["noise"])
        values: dict[str, Any] = {**header, **arrays}
        return cls(**values)
