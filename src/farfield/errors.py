"""Errors of farfield: one base class, drawn here.

FarfieldError
├── ConfigError (ValueError)          the campaign file or a flag is wrong
├── CrystalError (ValueError)         host, defect or cell is not one we can treat
├── BasisError (ValueError)           atoms that the surrogate cannot describe
├── FitError (ValueError)             observations that the prior cannot carry
├── OracleError (RuntimeError)        a reference method failed; `failure` names the class
│   ├── OracleLoadError (ImportError) an oracle that cannot be found or imported
│   ├── OracleTimeout (TimeoutError)  the call passed its wall time
│   └── OracleCrash                   the process died or left its memory limit
├── RecordError (RuntimeError)        the database refuses; nothing was written
│   └── SchemaError                   the database is of another revision
└── CampaignError (RuntimeError)      the campaign cannot go on

Every message is one line that ends with what to do next. The command line prints it and exits with code 2.
"""

from __future__ import annotations

__all__ = [
    "BasisError",
    "CampaignError",
    "ConfigError",
    "CrystalError",
    "FarfieldError",
    "FitError",
    "OracleCrash",
    "OracleError",
    "OracleLoadError",
    "OracleTimeout",
    "RecordError",
    "SchemaError",
]


class FarfieldError(Exception):
    """Base of every error that farfield raises on purpose."""


class ConfigError(FarfieldError, ValueError):
    """A campaign file or flag is wrong. `key` is the dotted name, e.g. ``"target.tol_geo"``."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class CrystalError(FarfieldError, ValueError):
    """A host, defect or cell that cannot be treated."""


class BasisError(FarfieldError, ValueError):
    """Atoms that the surrogate's basis cannot describe (coincident, unknown species, not finite)."""


class FitError(FarfieldError, ValueError):
    """Observations from which no surrogate can be fitted."""


class OracleError(FarfieldError, RuntimeError):
    """A reference calculation failed. `failure` is one of the failure classes of `oracles.oracle`."""

    def __init__(self, message: str, *, failure: str = "crashed") -> None:
        super().__init__(message)
        self.failure = failure


class OracleLoadError(OracleError, ImportError):
    """An oracle that is not installed, not importable or not an oracle."""

    def __init__(self, message: str) -> None:
        super().__init__(message, failure="input error")


class OracleTimeout(OracleError, TimeoutError):
    """The call passed its wall time and was killed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, failure="timed out")


class OracleCrash(OracleError):
    """The oracle's process died (`exitcode`) or was killed for its memory."""

    def __init__(self, message: str, *, exitcode: int | None = None, failure: str = "crashed") -> None:
        super().__init__(message, failure=failure)
        self.exitcode = exitcode


class RecordError(FarfieldError, RuntimeError):
    """The database refuses an operation; nothing was written."""


class SchemaError(RecordError):
    """The database's schema is of another revision than this program's."""

    def __init__(self, message: str, *, found: str | None = None, expected: str | None = None) -> None:
        super().__init__(message)
        self.found = found
        self.expected = expected


class CampaignError(FarfieldError, RuntimeError):
    """The campaign cannot go on; the message says why and what to change."""
