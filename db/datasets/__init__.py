"""Frozen datasets: members and values pinned by hash, split by structure family, written again byte for byte."""

from __future__ import annotations

from farfield.db.datasets.families import Families
from farfield.db.datasets.freezing import Frozen, datasets, find, freeze, verify
from farfield.db.datasets.members import Difference, difference, members

__all__ = ["Difference", "Families", "Frozen", "datasets", "difference", "find", "freeze", "members", "verify"]
