"""Two harmonic crystals, an oracle and a model of it."""

from __future__ import annotations

import pytest
from harmonic import HOST, Harmonic, constants

from farfield.service.cells import Defect


@pytest.fixture(scope="session")
def oracle(morse) -> Harmonic:  # type: ignore[no-untyped-def]
    return Harmonic(constants(morse))


@pytest.fixture(scope="session")
def model(morse) -> Harmonic:  # type: ignore[no-untyped-def]
    return Harmonic(constants(type(morse)(depth=0.31, b=1.5, r0=2.5)))


@pytest.fixture(scope="session")
def vacancy() -> Defect:
    return Defect.named(HOST, "vacancy")
