"""How a campaign file is put in words: one-line faults with the nearest key, and the commented template."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["commented", "explain", "flatten"]


def known_keys(model: type[BaseModel]) -> dict[str, str]:
    """Dotted name -> description of every key of a config model."""
    out: dict[str, str] = {}
    for name, field in model.model_fields.items():
        out[name] = field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for key, inner in field.annotation.model_fields.items():
                out[f"{name}.{key}"] = inner.description or ""
    return out


def explain(fault: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """The dotted key and one line (fault and mend) for the first error; later ones are counted."""
    errors = fault.errors()
    # An unknown key is named first: it often is the cause of the others (a misspelt required key).
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    known = known_keys(model)
    parts = [str(p) for p in first["loc"]]
    key = ".".join(parts)
    if first["type"] == "extra_forbidden":
        text = f"unknown key {key}; {_nearest(key, known)}"
    else:
        while parts and ".".join(parts) not in known and parts[0] in known and len(parts) > 2:
            parts.pop()  # a member of a union or list: speak of the key itself
        key = ".".join(parts)
        own = first["msg"].startswith("Value error, ")
        what = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
        what = what.replace("a valid dictionary or instance of", "a table of keys, that is a")
        given = first["input"]
        shown = "" if isinstance(given, dict) else f" = {json.dumps(given, default=str)}"
        text = f"{key}{shown}: {what[:1].lower() + what[1:]}"
        if not own and known.get(key):
            text += f" ({known[key]})"
    if len(errors) > 1:
        text += f" [and {len(errors) - 1} more]"
    return key, " ".join(text.split())


def _nearest(key: str, known: Mapping[str, str]) -> str:
    """Which key may have been meant: the same name in another section, or a misspelling."""
    section, _, last = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == section]
    close = [k for k in known if "." in k and k.rpartition(".")[2] == last]
    close = close or difflib.get_close_matches(key, siblings, n=1, cutoff=0.65)
    close = close or difflib.get_close_matches(key, list(known), n=1, cutoff=0.75)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(siblings)}"


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names; empty mappings vanish."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def commented(config: BaseModel, chosen: set[str]) -> str:
    """A TOML text of every key with its description; optional keys that are unset stand commented out."""
    lines = ["# A farfield campaign. Lengths in Å, energies in eV. Lines that begin with '# ' and a key are off.", ""]
    for name, field in type(config).model_fields.items():
        section = getattr(config, name)
        lines.append(f"[{name}]")
        if isinstance(section, BaseModel):
            for key, inner in type(section).model_fields.items():
                lines.append(_line(key, getattr(section, key), inner.description or ""))
        else:
            lines.append(f"# {field.description}")
            lines += [f"{_key(k)} = {_toml(v)}" for k, v in section.items()]
        lines.append("")
    return "\n".join(lines)


def _line(key: str, value: Any, description: str) -> str:
    if value is None:
        return f"# {key} =    # {description}"
    return f"{key} = {_toml(value)}    # {description}"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _toml(value: Any) -> str:
    """A TOML literal; JSON strings, numbers and lists are TOML, but tables are written inline."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # DEL: plain in JSON, not in TOML
