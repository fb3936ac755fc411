"""Which oracles there are and how one is made from a campaign file: the entry-point group ``farfield.oracles``.

An oracle is named by its entry point, or by ``package.module:Factory`` without any registration.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from farfield.errors import (
    FarfieldError,
    OracleAmbiguous,
    OracleLoadError,
    OracleMissing,
    OracleNotImportable,
    OracleParameterError,
    OracleWrongType,
)
from farfield.oracles.fingerprint import fingerprint_text
from farfield.oracles.observation import KINDS
from farfield.oracles.oracle import MeshRule, Oracle
from farfield.oracles.parameters import checked

__all__ = ["GROUP", "Available", "available", "check_name", "find", "load"]

GROUP = "farfield.oracles"
ASKED = frozenset(name for name, kind in KINDS.items() if not kind.derived)


@dataclass(frozen=True)
class Available:
    """An oracle that is installed: its name, where it comes from, and its one-line description."""

    name: str
    target: str
    package: str
    description: str


def available() -> dict[str, Available]:
    """All registered oracles, sorted by name. One that cannot be imported has the reason as its description.

    A class may have a static method ``installed()``; where that is false, its text ``install`` is the description.
    """
    out = {}
    for name, points in sorted(_points().items()):
        try:
            factory = points[0].load()
            text = (factory.__doc__ or "").strip().split("\n")[0]
            if hasattr(factory, "installed") and not factory.installed():
                text = f"not installed: {factory.install}"
        except Exception as error:  # noqa: BLE001 - a broken plug-in must not hide the others; its reason is shown
            text = f"cannot be imported: {_line(error)}"
        packages = sorted({p.dist.name for p in points if p.dist})
        out[name] = Available(name, points[0].value, ", ".join(packages), text)
    return out


def load(name: str, parameters: Mapping[str, Any] | None = None, base: str | os.PathLike[str] | None = None) -> Oracle:
    """The oracle `name` made with `parameters`; relative paths among these count from `base` (default: where we are).

    Raises OracleMissing (with the nearest known name), OracleAmbiguous, OracleNotImportable, OracleWrongType or
    OracleParameterError, each one line; or what the oracle itself raises of farfield's errors.
    """
    factory = _factory(name)
    arguments = checked(name, factory, parameters or {})
    here = base is not None and Path(base).is_dir()  # on another host it may not be there, nor be needed
    try:
        with chdir(base) if here and base is not None else nullcontext():
            oracle = factory(**arguments)
    except FarfieldError:
        raise
    except ImportError as error:
        why = f"oracle {name!r} needs a package that is not installed: {_line(error)}; install it"
        raise OracleNotImportable(why) from error
    except (TypeError, ValueError) as error:
        why = f"oracle {name!r} refuses its parameters: {_line(error)}; see [oracle.parameters]"
        raise OracleParameterError(why) from error
    except Exception as error:  # a plug-in may raise anything
        why = f"oracle {name!r} cannot be made ({type(error).__name__}: {_line(error)}); see [oracle.parameters]"
        raise OracleLoadError(why) from error
    return _sound(name, oracle)


def find(name: str) -> str:
    """`name` as `load` takes it, where it may also be the name of a package or module that holds one oracle.

    Of a package its entry point is taken, else its one class with ``evaluate`` and ``fingerprint``. Raises
    OracleMissing or OracleAmbiguous, or OracleNotImportable for a module that does not load.
    """
    points = _points()
    if name in points or ":" in name:
        return name
    theirs = [n for n, found in points.items() if any(f"{p.module}.".startswith(f"{name}.") for p in found)]
    if len(theirs) > 1:
        raise OracleAmbiguous(f"the package {name} registers {', '.join(sorted(theirs))}; name one of them")
    if theirs:
        return theirs[0]
    if not _importable(name):
        raise _missing(name, points)
    module = _module(name, name)
    classes = [
        n
        for n, c in vars(module).items()
        if isinstance(c, type) and c.__module__.partition(".")[0] == name.partition(".")[0] and _evaluates(c)
    ]
    if not classes:
        raise OracleMissing(f"the module {name} registers no oracle and has no class with `evaluate` and `fingerprint`")
    if len(classes) > 1:
        raise OracleAmbiguous(f"the module {name} has the oracles {', '.join(classes)}; name one: {name}:{classes[0]}")
    return f"{name}:{classes[0]}"


def _evaluates(found: Any) -> bool:
    return callable(getattr(found, "evaluate", None)) and callable(getattr(found, "fingerprint", None))


def _importable(name: str) -> bool:
    try:
        return all(part.isidentifier() for part in name.split(".")) and find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _sound(name: str, oracle: Any) -> Oracle:
    """`oracle`, when it has all that `Oracle` asks for. Raises OracleWrongType that names what is amiss."""
    lacking = [n for n in ("evaluate", "fingerprint", "cost") if not callable(getattr(oracle, n, None))]
    lacking += [n for n in ("name", "supports", "mesh", "analytic") if not hasattr(oracle, n)]
    if lacking:
        raise OracleWrongType(f"{name!r} is no oracle: it lacks {', '.join(lacking)}; see farfield.oracles.oracle")
    wrong = ""
    supports = oracle.supports
    if isinstance(supports, str) or not isinstance(supports, Iterable) or not set(supports):
        wrong = f"supports is {supports!r}, not a set of kinds"
    elif not set(supports) <= ASKED:
        wrong = f"supports lists {', '.join(sorted(str(k) for k in set(supports) - ASKED))}; an oracle answers E, F, V"
    elif oracle.mesh not in get_args(MeshRule):
        wrong = f"mesh is {oracle.mesh!r}, not one of {', '.join(get_args(MeshRule))}"
    elif not isinstance(oracle.analytic, bool):
        wrong = f"analytic is {oracle.analytic!r}, not True or False"
    if wrong:
        raise OracleWrongType(f"{name!r} is no oracle: {wrong}; see farfield.oracles.oracle")
    try:
        fingerprint_text(oracle)
    except FarfieldError:
        raise
    except Exception as error:  # a plug-in may raise anything
        why = f"{name!r} is no oracle: its fingerprint is no JSON object ({type(error).__name__}: {_line(error)})"
        raise OracleWrongType(why) from error
    made: Oracle = oracle
    return made


def _points() -> dict[str, list[EntryPoint]]:
    out: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        if point.value not in [p.value for p in out.get(point.name, [])]:
            out.setdefault(point.name, []).append(point)
    return out


def _factory(name: str) -> Callable[..., Any]:
    if ":" in name:
        return _imported(name)
    points = _points()
    if name not in points:
        raise _missing(name, points)
    if len(points[name]) > 1:
        owners = ", ".join(p.value for p in points[name])
        raise OracleAmbiguous(f"two packages register an oracle {name!r} ({owners}); uninstall one")
    target = points[name][0].value
    try:
        factory = points[name][0].load()
    except Exception as error:  # the import of a plug-in may raise anything
        why = f"oracle {name!r} ({target}) cannot be imported: {_line(error)}; reinstall its package"
        raise OracleNotImportable(why) from error
    return _callable(name, factory)


def check_name(name: str) -> None:
    """Raise OracleMissing for a name that no package registers and that is no 'package.module:Class'; loads nothing."""
    points = _points()
    if ":" not in name and name not in points:
        raise _missing(name, points)


def _missing(name: str, known: Iterable[str]) -> OracleMissing:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}" if near else f"known are {', '.join(sorted(known))}"
    return OracleMissing(f"there is no oracle {name!r}; {hint}, or one of your own as 'package.module:Class'")


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise OracleMissing(f"oracle {name!r} is not of the form 'package.module:Class'; mend the name")
    try:
        found = getattr(_module(name, module), attribute)
    except AttributeError as error:
        raise OracleMissing(f"oracle {name!r}: {_line(error)}; check the name after the colon") from error
    return _callable(name, found)


def _module(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except Exception as error:  # the import of a user's module may raise anything
        why = f"oracle {name!r} cannot be imported: {_line(error)}; check the name and PYTHONPATH"
        raise OracleNotImportable(why) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _callable(name: str, factory: Any) -> Callable[..., Any]:
    if not callable(factory):
        raise OracleWrongType(f"{name!r} is no oracle: it is a {type(factory).__name__}, not a class or function")
    made: Callable[..., Any] = factory
    return made
