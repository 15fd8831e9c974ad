"""What the tests of jobs share: their toys can be imported, in workers' processes too, and there is an office."""

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from job_office import Kept, Office, the_backend


@pytest.fixture(scope="module", params=["thread", "processes"])
def shared(request, tmp_path_factory):
    """A backend of each kind, and the loop that it lives in."""
    with asyncio.Runner() as runner:
        backend = Kept(the_backend(request.param, tmp_path_factory.mktemp("base")))
        yield request.param, backend, runner
        runner.run(backend.backend.close())


@pytest.fixture
def office(shared, tmp_path):
    kind, backend, runner = shared
    office = Office(tmp_path, backend, runner)
    office.kind = kind
    office.run(office.dispatcher.start())
    office.run(office.until(lambda: office.dispatcher.alive))
    yield office
    office.run(office.close())


@pytest.fixture
def opened(tmp_path):
    """Makes offices with backends of their own."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:

        def make(backend, **options):
            office = Office(tmp_path, backend, runner, **options)
            office.run(office.dispatcher.start())
            stack.callback(lambda: office.run(office.close()))
            return office

        yield make
