"""What fault tests compare with: the campaign that nothing happens to; and a PostgreSQL server that may be stopped."""

from __future__ import annotations

from collections.abc import Iterator

import postgres
import pytest
from required import absent
from tiny import Decided, Tiny


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Decided:
    """What the undisturbed campaign decides, proposal by proposal."""
    tiny = Tiny(tmp_path_factory.mktemp("calm"))
    tiny.finish()
    decided = tiny.decided()
    tiny.close()
    return decided


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """A server with an empty database."""
    if (why := postgres.missing()) is not None:
        absent("postgres", why)
    server = postgres.Server()
    yield server
    server.close()
