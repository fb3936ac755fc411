"""The parameters of an oracle against what its factory takes, before anything is made: wrong ones fail at once.

A plug-in declares them as it declares any function: names, defaults and annotations of ``__init__`` are the model::

    class MyOracle:
        def __init__(self, potential: Path, cutoff: Annotated[float, Field(gt=0)] = 6.0) -> None: ...

One that needs more (rules between keys, nested tables) sets ``parameters_model`` to a pydantic model instead. Values
are those of the campaign file: a text is no number, a whole number may stand for a float, a list for a tuple.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

from farfield.errors import OracleParameterError, OracleWrongType

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["checked"]

SECTION = "oracle.parameters"


def checked(name: str, factory: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for `factory`, the oracle `name`: `parameters` with their values as the declared types.

    Raises OracleParameterError, one line that names the key: unknown (with the nearest known one), lacking, of the
    wrong type or value. An annotation that pydantic cannot check is left to the factory.
    """
    model = getattr(factory, "parameters_model", None)
    if model is not None:
        return _by_model(name, model, parameters)
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some built-in types have none
        return dict(parameters)
    declared = {p.name: p for p in signature.parameters.values()}
    named = {n: p for n, p in declared.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in declared.values()):
        for key in parameters:
            if key not in named:
                raise _unknown(name, key, list(named))
    for key, p in named.items():
        if p.default is p.empty and key not in parameters:
            raise _fault(name, key, "is lacking; give it")
    if not parameters:
        return {}
    types = _types(factory, list(named))
    return {key: _value(name, key, value, types.get(key, Any)) for key, value in parameters.items()}


def _by_model(name: str, model: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import BaseModel, ValidationError

    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise OracleWrongType(f"oracle {name!r}: its parameters_model is no pydantic model; mend the plug-in")
    known = list(model.model_fields)
    taken = {alias for f in model.model_fields.values() if isinstance(alias := f.alias, str)} | set(known)
    for key in parameters:
        if key not in taken and model.model_config.get("extra") != "allow":
            raise _unknown(name, key, known)
    try:
        made = model.model_validate_json(json.dumps(dict(parameters)), strict=True)
    except ValidationError as fault:
        raise _explained(name, fault) from None
    return {key: getattr(made, key) for key in [*known, *(made.model_extra or {})]}


def _types(factory: Callable[..., Any], names: list[str]) -> dict[str, Any]:
    """The annotations of the named parameters; one that cannot be read here (imported for type checkers) is left out.

    The owner of the annotations is the function behind the factory: of a class, its ``__init__``.
    """
    owner = inspect.unwrap(getattr(factory, "__init__", factory) if inspect.isclass(factory) else factory)
    owner = getattr(owner, "func", owner)  # functools.partial
    annotations = getattr(owner, "__annotations__", {})
    scope = getattr(owner, "__globals__", {})
    found = {}
    for key in names:
        if key in annotations:
            one = SimpleNamespace(__annotations__={key: annotations[key]})
            try:
                found[key] = get_type_hints(one, globalns=scope, include_extras=True)[key]
            except (NameError, TypeError, AttributeError, SyntaxError):
                continue
    return found


def _value(name: str, key: str, value: Any, annotation: Any) -> Any:
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter = TypeAdapter(annotation)
    except PydanticUserError:
        return value  # a type that pydantic does not know
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as fault:
        raise _explained(name, fault, key) from None


def _explained(name: str, fault: ValidationError, key: str = "") -> OracleParameterError:
    """The first error of pydantic, with the dotted key."""
    first = fault.errors()[0]
    inside = [str(p) for p in first["loc"] if isinstance(p, int) or not key]
    dotted = ".".join([key, *inside] if key else inside)
    if first["type"] == "missing":
        return _fault(name, dotted, "is lacking; give it")
    if first["type"] == "extra_forbidden":
        return _fault(name, dotted, "is unknown; remove it")
    what = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    what = what.replace("valid array", "list").replace("valid object", "table").replace("valid string", "text")
    what = what.replace("an object", 'a table, such as { Al = "Al.UPF" }')
    shown = "" if isinstance(first["input"], dict) else f" = {json.dumps(first['input'], default=str)}"
    return _fault(name, dotted, f"{what[:1].lower()}{what[1:]}; mend it", shown)


def _unknown(name: str, key: str, known: list[str]) -> OracleParameterError:
    near = get_close_matches(key, known, n=1)
    if near:
        return _fault(name, key, f"is unknown; did you mean {near[0]}?")
    return _fault(name, key, f"is unknown; it takes {', '.join(known)}" if known else "is unknown; it takes none")


def _fault(name: str, key: str, what: str, shown: str = "") -> OracleParameterError:
    dotted = f"{SECTION}.{key}" if key else SECTION
    return OracleParameterError(f"oracle {name!r}: {dotted}{shown} {' '.join(what.split())}", key=dotted)
