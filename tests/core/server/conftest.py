"""A server of toy nodes, in a folder of one's own."""

from functools import partial

import pytest
import serving as tools


@pytest.fixture
def serving(tmp_path):
    """`async with serving() as client`: a running server; settings and further nodes as `tools.serving` takes them."""
    return partial(tools.serving, tmp_path)
