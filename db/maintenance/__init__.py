"""Care of a database: check it, copy it to another back end, bring an old one up to date, say what it holds."""

from __future__ import annotations

from farfield.db.maintenance.checking import Check, check
from farfield.db.maintenance.copying import Copied, copy
from farfield.db.maintenance.info import info
from farfield.db.maintenance.upgrading import Upgraded, upgrade

__all__ = ["Check", "Copied", "Upgraded", "check", "copy", "info", "upgrade"]
