"""Programs that tests use where they are installed. FARFIELD_REQUIRE names those without which no test is skipped."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from farfield.errors import OracleLoadError

__all__ = ["absent", "loaded"]

Made = TypeVar("Made")


def absent(name: str, why: str) -> None:
    """End the test for want of the program `name`: skipped, or failed where FARFIELD_REQUIRE asks for it."""
    if name in os.environ.get("FARFIELD_REQUIRE", "").split(","):
        pytest.fail(f"FARFIELD_REQUIRE asks for {name}: {why}")
    pytest.skip(why)


def loaded(name: str, make: Callable[[], Made]) -> Made:
    """The oracle that `make` loads; where that fails for want of the program `name`, the test ends as `absent` says."""
    try:
        return make()
    except OracleLoadError as why:
        absent(name, str(why))
        raise
