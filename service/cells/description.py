"""Host and defect from their descriptions: the tables `host` and `defect` of a campaign file, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from farfield.service.cells.defect import Defect
from farfield.service.cells.host import Host, Rows

__all__ = ["Geometry", "described_defect", "described_host"]

Geometry = tuple[float | None, Rows | None, Rows | None]
"""Lattice constant (Å), shape of the cell and sites that the oracle gave a host; None: as described."""


def described_host(table: Mapping[str, Any], geometry: Geometry = (None, None, None)) -> Host:
    """The host; a lattice constant that is neither given nor known is a first guess. Raises CrystalError."""
    a, shape, sites = geometry
    if table.get("cell") is not None:
        names = tuple(str(s[0]) for s in table["sites"])
        host = Host.of_cell(table["lattice"], names, np.array(table["cell"]), np.array([s[1:] for s in table["sites"]]))
        host = host if a is None else host.with_constant(a)
    else:
        known = table["lattice_constant"]
        given = None if isinstance(known, str) else float(known)
        host = Host.named(table["lattice"], tuple(table["species"]), given if a is None else a, table.get("c_over_a"))
    if shape is not None:
        host = replace(host, shape=shape)
    return host if sites is None else replace(host, sites=sites)


def described_defect(table: Mapping[str, Any], host: Host) -> Defect:
    """The defect in `host`. Raises CrystalError for what does not fit."""
    if table["kind"] != "complex":
        return Defect.named(
            host, table["kind"], species=table["species"], site=table["site"], position=table["position"]
        )
    removed = [(int(b), int(i), int(j), int(k)) for b, i, j, k in table["removed"]]
    changed = [((int(b), int(i), int(j), int(k)), str(s)) for b, i, j, k, s in table["changed"]]
    added = [(str(s), (float(x), float(y), float(z))) for s, x, y, z in table["added"]]
    return Defect.assembled(host, removed, changed, added)
