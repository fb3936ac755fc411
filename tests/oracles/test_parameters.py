"""Wrong parameters of an oracle are refused by name before it is made, for a plain signature and for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from farfield.errors import OracleParameterError, OracleWrongType
from farfield.oracles.ase_calculator import AseOracle
from farfield.oracles.parameters import checked

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Plain:
    """Annotated as any class; nothing of it may run before its parameters are right."""

    def __init__(
        self,
        potential: Path,
        cutoff: Annotated[float, Field(gt=0)] = 6.0,
        mesh: tuple[int, int, int] = (1, 1, 1),
        *,
        method: Literal["pbe", "lda"] = "pbe",
        species: Sequence[str] = (),
        tables: Mapping[str, float] | None = None,
        other: Unknown = None,
    ) -> None:
        raise AssertionError("made")


class Smearing(BaseModel):
    width: float = Field(gt=0)


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    k_spacing: float = 0.2
    smearing: Smearing
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Modelled:
    parameters_model = Settings

    def __init__(self, **parameters: Any) -> None:
        raise AssertionError("made")


@dataclass
class Declared:
    depth: float
    steps: int = 3


def test_values_become_the_declared_types() -> None:
    given = {"potential": "w.eam", "cutoff": 5, "mesh": [2, 2, 2], "species": ["W"], "tables": {"a": 1}, "other": "?"}
    made = checked("x", Plain, given)
    assert made == {**given, "potential": Path("w.eam"), "mesh": (2, 2, 2)}
    assert isinstance(made["cutoff"], float)  # 5 and 5.0 are one fingerprint
    assert checked("x", Declared, {"depth": 2}) == {"depth": 2.0}
    assert checked("x", partial(Plain, "w.eam"), {"cutoff": 5}) == {"cutoff": 5.0}
    assert checked("x", lambda **anything: anything, {"a": [1]}) == {"a": [1]}
    assert checked("x", Modelled, {"smearing": {"width": 0.1}})["smearing"] == Smearing(width=0.1)


@pytest.mark.parametrize(
    ("factory", "parameters", "key", "message"),
    [
        (Plain, {"potential": "w", "cutof": 3}, "cutof", "is unknown; did you mean cutoff?"),
        (Plain, {"potential": "w", "xyz": 3}, "xyz", "is unknown; it takes potential, cutoff, mesh"),
        (Plain, {}, "potential", "is lacking; give it"),
        (Plain, {"potential": 3}, "potential", "= 3"),
        (Plain, {"potential": "w", "cutoff": "6"}, "cutoff", '= "6" should be a valid number'),
        (Plain, {"potential": "w", "cutoff": -6}, "cutoff", "= -6 should be greater than 0"),
        (Plain, {"potential": "w", "mesh": [1, 1]}, "mesh.2", "is lacking"),
        (Plain, {"potential": "w", "mesh": [1, 1, 1.5]}, "mesh.2", "= 1.5 should be a valid integer"),
        (Plain, {"potential": "w", "method": "lsd"}, "method", "should be 'pbe' or 'lda'"),
        (Plain, {"potential": "w", "species": "W"}, "species", "should be a list"),
        (Declared, {"depth": 1.0, "steps": True}, "steps", "should be a valid integer"),
        (AseOracle, {"calculater": "x"}, "calculater", "did you mean calculator?"),
        (AseOracle, {"calculator": "x", "analytic": "yes"}, "analytic", "should be a valid boolean"),
        (Modelled, {"smearing": {"width": 0.1}, "kspacing": 0.1}, "kspacing", "did you mean k_spacing?"),
        (Modelled, {}, "smearing", "is lacking"),
        (Modelled, {"smearing": {"width": -1}}, "smearing.width", "= -1 should be greater than 0"),
        (Modelled, {"smearing": {"width": 1}, "low": 3}, "", "low is above high"),
    ],
)
def test_refusals_name_the_key(factory: Any, parameters: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(OracleParameterError) as fault:
        checked("mine", factory, parameters)
    assert fault.value.key == f"oracle.parameters.{key}".rstrip(".")
    text = str(fault.value)
    assert text.startswith(f"oracle 'mine': {fault.value.key}")
    assert message in text
    assert "\n" not in text


def test_a_model_that_is_none_is_the_plug_in_s_fault() -> None:
    class Wrong(Modelled):
        parameters_model = dict  # type: ignore[assignment]

    with pytest.raises(OracleWrongType, match="no pydantic model"):
        checked("mine", Wrong, {})
