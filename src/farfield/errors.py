"""Errors of farfield: one base class, drawn here.

FarfieldError
├── ConfigError (ValueError)          the campaign file or a flag is wrong
├── CrystalError (ValueError)         host, defect or cell is not one we can treat
├── BasisError (ValueError)           atoms that the surrogate cannot describe
├── FitError (ValueError)             observations that the prior cannot carry
├── OracleError (RuntimeError)        a reference method failed; `failure` names the class
│   ├── OracleLoadError (ImportError) an oracle that cannot be made; by its reason:
│   │   ├── OracleMissing (LookupError)       no package registers the name
│   │   ├── OracleAmbiguous                   two packages register it
│   │   ├── OracleNotImportable               its module, or a package it needs, cannot be imported
│   │   ├── OracleWrongType (TypeError)       what was found is no oracle
│   │   └── OracleParameterError (ValueError) a parameter is unknown, lacking or wrong
│   ├── OracleTimeout (TimeoutError)  the call passed its wall time
│   ├── OracleUnfit                   this host cannot run the oracle now
│   └── OracleCrash                   the process died or left its memory limit
├── RecordError (RuntimeError)        the database refuses; nothing was written
│   └── SchemaError                   the database is of another revision
└── CampaignError (RuntimeError)      the campaign cannot begin, or cannot go on
    └── CampaignInterrupted           it ran; what it needs went away, and `farfield run` goes on when it is back

Every message is one line that ends with what to do next. The command line prints it and exits with code 2, or 1 for
CampaignInterrupted.
"""

from __future__ import annotations

__all__ = [
    "BasisError",
    "CampaignError",
    "CampaignInterrupted",
    "ConfigError",
    "CrystalError",
    "FarfieldError",
    "FitError",
    "OracleAmbiguous",
    "OracleCrash",
    "OracleError",
    "OracleLoadError",
    "OracleMissing",
    "OracleNotImportable",
    "OracleParameterError",
    "OracleTimeout",
    "OracleUnfit",
    "OracleWrongType",
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
    """A reference calculation failed. `failure` is one of the failure classes of `oracles.oracle`; `kept` names the
    folder with its files and output, where they were kept."""

    kept: str | None = None

    def __init__(self, message: str, *, failure: str = "crashed") -> None:
        super().__init__(message)
        self.failure = failure


class OracleUnfit(OracleError):
    """This host cannot run the oracle now, and another may: nothing was calculated."""

    def __init__(self, message: str) -> None:
        super().__init__(message, failure="worker lost")


class OracleLoadError(OracleError, ImportError):
    """An oracle that cannot be made; the subclasses say why."""

    def __init__(self, message: str) -> None:
        super().__init__(message, failure="input error")


class OracleMissing(OracleLoadError, LookupError):
    """No installed package registers an oracle of this name."""


class OracleAmbiguous(OracleLoadError):
    """Two packages register an oracle of this name."""


class OracleNotImportable(OracleLoadError):
    """The oracle's module, or a package or program that it needs, is not there or does not load."""


class OracleWrongType(OracleLoadError, TypeError):
    """What the name stands for is no oracle: it lacks a method or an attribute, or one has a wrong value."""


class OracleParameterError(OracleLoadError, ValueError):
    """A parameter of the oracle is unknown, lacking or wrong. `key` is dotted: ``oracle.parameters.cutoff``."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


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
    """The campaign cannot begin, or cannot go on; the message says why and what to change."""


class CampaignInterrupted(CampaignError):
    """The campaign ran, and cannot go on for now; nothing in its file is wrong, and `farfield run` resumes it."""
