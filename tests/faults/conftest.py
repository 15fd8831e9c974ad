"""Servers with faulty nodes, as real processes; after each test they are looked at."""

import pytest
from server_process import GROWTH, serving


@pytest.fixture(scope="session", params=[(), ("--workers", "1")], ids=["in process", "a worker"])
def shared(request, tmp_path_factory):
    """A server of each kind for many tests."""
    with serving(tmp_path_factory.mktemp("shared"), *request.param) as server:
        server.well()
        server.well()
        yield server


@pytest.fixture
def server(shared):
    """The same; afterwards it is well, and has not grown."""
    before = shared.rss()
    yield shared
    shared.well()
    assert shared.rss() - before < GROWTH
