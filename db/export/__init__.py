"""Files for trainers: labels in the formats they read, each with a manifest of what it holds and where it came from."""

from __future__ import annotations

from farfield.db.export.extxyz import Keys, extxyz
from farfield.db.export.formats import FORMATS, format_of
from farfield.db.export.origin import Origin, of_dataset, of_selection
from farfield.db.export.weights import Weights
from farfield.db.export.writing import Exported, write, write_extxyz

__all__ = [
    "FORMATS",
    "Exported",
    "Keys",
    "Origin",
    "Weights",
    "extxyz",
    "format_of",
    "of_dataset",
    "of_selection",
    "write",
    "write_extxyz",
]
