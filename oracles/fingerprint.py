"""The fingerprint of an oracle as one hash: what the identity of a calculation hangs on (decisions A2, A3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from farfield.oracles.oracle import Oracle

__all__ = ["fingerprint_hash", "fingerprint_text"]


def fingerprint_text(oracle: Oracle) -> str:
    """Canonical JSON of `oracle.fingerprint()`. Raises TypeError or ValueError for values that JSON cannot carry."""
    found = oracle.fingerprint()
    if not isinstance(found, Mapping):
        raise TypeError(f"it is a {type(found).__name__}, not a mapping")
    return json.dumps(dict(found), sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint_hash(oracle: Oracle) -> str:
    """sha256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(fingerprint_text(oracle).encode()).hexdigest()
