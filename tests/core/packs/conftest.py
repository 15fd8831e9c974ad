"""The packs of tests/packs, loaded beside our own nodes on a base directory of their own."""

import sys
from pathlib import Path

import pytest
from limner.core.host import Host, Settings
from limner.core.packs.loading import load
from limner.nodes import NODES

PACKS = Path(__file__).parents[2] / "packs"


@pytest.fixture
def host(tmp_path):
    return Host(NODES, Settings(base=tmp_path / "base", device="cpu", disk_cache=False))


@pytest.fixture
def loaded(host):
    """Load folders of packs; all are put away in the end."""
    found = []

    def begin(*folders):
        found.append(load(folders, NODES, host))
        return found[-1]

    yield begin
    for packs in found:
        packs.close()


@pytest.fixture
def good(loaded):
    return loaded(PACKS / "good")


@pytest.fixture
def module(good):
    """The pack that has a node for every sentence of the protocol."""
    found = sys.modules[good.kinds["ToyAdd"].__module__]
    found.CALLS.clear()
    found.MEETING.clear()
    return found
