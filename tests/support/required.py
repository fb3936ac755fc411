"""Programs that a test needs: skipped with the reason where one is missing, failed where CI promises it."""

from __future__ import annotations

import os

import pytest

__all__ = ["oracle_or_skip"]


def oracle_or_skip(program: str, make):  # type: ignore[no-untyped-def]
    """What `make()` makes; skipped where it cannot be loaded, failed where $FARFIELD_REQUIRE names `program`."""
    from farfield.errors import OracleLoadError

    try:
        return make()
    except OracleLoadError as why:
        if program in os.environ.get("FARFIELD_REQUIRE", "").split(","):
            pytest.fail(f"FARFIELD_REQUIRE asks for {program}: {why}")
        pytest.skip(str(why))
