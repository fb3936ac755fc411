"""What fault tests compare with: the campaign that nothing happens to; and PostgreSQL servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from postgres import Server, served
from tiny import Decided, Tiny

from farfield.service.campaign.config import ClusterSection
from farfield.service.runner.cluster import Cluster
from farfield.service.runner.clusters import connect


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Decided:
    """What the undisturbed campaign decides, proposal by proposal."""
    with closing(Tiny(tmp_path_factory.mktemp("calm"))) as tiny:
        tiny.finish()
        return tiny.decided()


@pytest.fixture
def tiny_in() -> Iterator[Callable[..., Tiny]]:
    """Makes tiny campaigns, and closes them however the test ends."""
    with ExitStack() as stack:

        def made(*args: Any, **kwargs: Any) -> Tiny:
            return stack.enter_context(closing(Tiny(*args, **kwargs)))

        yield made


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with an empty database, of one test's own."""
    with served() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server that all tests share; each leaves it empty."""
    with served() as server:
        yield server.url


@pytest.fixture(scope="module")
def client() -> Iterator[Cluster]:
    with connect(ClusterSection(workers=2), one_host=True) as cluster:
        yield cluster


@pytest.fixture
def bench(tmp_path: Path, client: Cluster) -> Bench:
    return Bench(tmp_path, client)
