"""Programs that tests use where they are installed. FARFIELD_REQUIRE names those without which no test is skipped."""

from __future__ import annotations

import os

import pytest


def absent(name: str, why: str) -> None:
    """End the test for want of the program `name`: skipped, or failed where FARFIELD_REQUIRE asks for it."""
    if name in os.environ.get("FARFIELD_REQUIRE", "").split(","):
        pytest.fail(f"FARFIELD_REQUIRE asks for {name}: {why}")
    pytest.skip(why)
