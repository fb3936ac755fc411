"""Which oracles there are and how one is made from a campaign file: the entry-point group ``farfield.oracles``.

An oracle is named by its entry point, or by ``package.module:Factory`` without any registration.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from farfield.errors import FarfieldError, OracleLoadError
from farfield.oracles.oracle import Oracle

__all__ = ["GROUP", "Available", "available", "load"]

GROUP = "farfield.oracles"


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


def load(name: str, parameters: Mapping[str, Any] | None = None) -> Oracle:
    """The oracle `name` made with `parameters`.

    Raises OracleLoadError, one line: unknown (with the nearest known name), registered twice, not importable, wrong
    parameters, or not an oracle.
    """
    factory = _factory(name)
    try:
        oracle = factory(**dict(parameters or {}))
    except FarfieldError:
        raise
    except ImportError as error:
        why = f"oracle {name!r} needs a package that is not installed: {_line(error)}; install it"
        raise OracleLoadError(why) from error
    except (TypeError, ValueError) as error:
        why = f"oracle {name!r} refuses its parameters: {_line(error)}; see [oracle.parameters]"
        raise OracleLoadError(why) from error
    except Exception as error:  # a plug-in may raise anything
        why = f"oracle {name!r} cannot be made ({type(error).__name__}: {_line(error)}); see [oracle.parameters]"
        raise OracleLoadError(why) from error
    if not isinstance(oracle, Oracle):
        raise OracleLoadError(f"{name!r} is no oracle: it lacks part of farfield.oracles.oracle.Oracle; see that file")
    return oracle


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
        near = get_close_matches(name, points, n=1)
        hint = f"did you mean {near[0]!r}" if near else f"known are {', '.join(sorted(points))}"
        raise OracleLoadError(f"there is no oracle {name!r}; {hint}, or one of your own as 'package.module:Class'?")
    if len(points[name]) > 1:
        owners = ", ".join(p.value for p in points[name])
        raise OracleLoadError(f"two packages register an oracle {name!r} ({owners}); uninstall one")
    target = points[name][0].value
    try:
        factory = points[name][0].load()
    except Exception as error:  # the import of a plug-in may raise anything
        why = f"oracle {name!r} ({target}) cannot be imported: {_line(error)}; reinstall its package"
        raise OracleLoadError(why) from error
    return _callable(name, factory)


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise OracleLoadError(f"oracle {name!r} is not of the form 'package.module:Class'; mend the name")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise OracleLoadError(f"oracle {name!r}: {_line(error)}; check the name after the colon") from error
    except Exception as error:  # the import of a user's module may raise anything
        why = f"oracle {name!r} cannot be imported: {_line(error)}; check the name and PYTHONPATH"
        raise OracleLoadError(why) from error
    return _callable(name, found)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _callable(name: str, factory: Any) -> Callable[..., Any]:
    if not callable(factory):
        raise OracleLoadError(f"{name!r} is no oracle: it is a {type(factory).__name__}, not a class or function")
    made: Callable[..., Any] = factory
    return made
