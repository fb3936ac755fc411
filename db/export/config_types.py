"""What a configuration is, in the few words that trainers group by."""

from __future__ import annotations

__all__ = ["config_type"]

TYPES = {
    "check": "host",
    "reference": "host",
    "phase": "host",
    "lattice constant": "host",
    "noise": "host",
    "strain": "strain",
    "force constants": "fc",
    "training": "defect",
    "confirmation": "defect",
    "verification": "rung",
    "isolated atom": "IsolatedAtom",
}


def config_type(role: str | None) -> str:
    """host, defect, rung, strain, fc or IsolatedAtom for a proposal's role; another role as it is; other for none."""
    return "other" if role is None else TYPES.get(role, role)
